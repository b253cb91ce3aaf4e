"""The Python of the README and of the docs: it compiles, and every name in it is there."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LOCAL = {"reader"}  # modules that only a user's folder has: jaxdet export writes it


def _blocks(page: Path) -> list[ast.Module]:
    text = page.read_text(encoding="utf-8")
    trees = []
    for found in _BLOCK.finditer(text):
        line = text[: found.start(1)].count("\n")
        trees.append(ast.parse("\n" * line + found[1], filename=str(page)))
    return trees


def _with_blocks():
    return [page for page in PAGES if _blocks(page)]


def _bound(tree: ast.AST) -> set[str]:
    """All names that a block binds, wherever."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
    return names


def _modules(tree: ast.AST) -> dict[str, str]:
    """Modules by the name under which a block imports them; every name that it imports from one is there."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
                if alias.asname or "." not in alias.name:
                    modules[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module not in _LOCAL:
            module = importlib.import_module(node.module)
            for alias in node.names:
                there = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert there, f"line {node.lineno}: {node.module} has no {alias.name}"
    return modules


@pytest.mark.parametrize("page", _with_blocks(), ids=lambda page: page.name)
def test_every_name_is_there(page):
    bound, modules = set(dir(builtins)), {}
    for tree in _blocks(page):
        modules |= _modules(tree)
        bound |= _bound(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                assert node.id in bound, f"{page.name}:{node.lineno}: {node.id} is neither imported nor defined"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                module = importlib.import_module(modules[node.value.id])
                assert hasattr(module, node.attr), f"{page.name}:{node.lineno}: {module.__name__} has no {node.attr}"


def test_extras_are_quoted_as_zsh_needs_it():
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"pip install [^'\"`]*\[", line), f"{page.name}: {line}"


def test_the_package_index_gets_no_link_that_leads_nowhere(monkeypatch):
    interface = SimpleNamespace(MetadataHookInterface=object)  # hatchling is there while a package is built, only
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    description = runpy.run_path(str(ROOT / "hatch_build.py"))["description"]
    text = "![A demo](docs/demo.png) [train](docs/train.md#config) [jax](https://docs.jax.dev) [below](#models)"
    assert description(text, None) == " train [jax](https://docs.jax.dev) [below](#models)"
    assert description(text, "https://host/owner/name/") == (
        "![A demo](https://host/owner/name/raw/main/docs/demo.png) "
        "[train](https://host/owner/name/blob/main/docs/train.md#config) [jax](https://docs.jax.dev) [below](#models)"
    )
    whole = description((ROOT / "README.md").read_text(encoding="utf-8"), None)
    assert "](docs/" not in whole and "](benchmarks/" not in whole and len(whole) > 5000
