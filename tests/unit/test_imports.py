"""Imports go one way, down the list of docs/design.md, and `jaxdet` never needs torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each room may import from those to the left of it, and from itself.
ORDER = (
    "compilation_cache", "types", "typed", "extras", "config", "paths", "ops", "nn", "base", "backbones", "necks",
    "heads", "parallel", "models", "detectors", "training", "data", "evaluation", "compiling", "inference",
    "label_layout", "visualize", "plots", "summary", "saving", "create", "detect", "runs", "data_report", "planning",
    "export", "cli",
)  # fmt: skip
TORCH_NAMES = {"torch", "torchvision"}
# Inside of functions: what opens PyTorch's files on a user's behalf.
MAY_CONVERT = {
    "cli/convert.py",
    "cli/parity.py",
    "cli/models.py",
    "cli/train.py",
    "cli/weights.py",
    "cli/classify.py",
    "create.py",
    "saving/resolve.py",
}


def _sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _imports(path: Path) -> list[tuple[str, bool]]:
    """(module, whether it is imported inside a function or for type checkers alone) of every import in a file."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(scope, ast.If) and ast.unparse(scope.test) == "TYPE_CHECKING")
        for node in ast.walk(scope)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) in inside))
    return found


def _room(module: str) -> str:
    return module.split(".")[1]


def test_the_design_lists_the_rooms_in_this_order():
    rows = re.findall(r"^\| (`jaxdet\..*?) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    assert re.findall(r"`jaxdet\.(\w+)`", " ".join(rows)) == list(ORDER)


@pytest.mark.parametrize("path", _sources("src/jaxdet"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    parts = path.relative_to(ROOT / "src" / "jaxdet").parts
    room = parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    for module, inside in _imports(path):
        top = module.split(".")[0]
        assert top not in TORCH_NAMES, f"{module} in jaxdet"
        if top == "jaxdet_convert":
            assert "/".join(parts) in MAY_CONVERT and inside, f"{module} outside of a function that may"
        elif top == "jaxdet" and module != "jaxdet":
            assert ORDER.index(_room(module)) <= ORDER.index(room), f"{room} imports {module}"


@pytest.mark.parametrize("path", [*_sources("src"), *_sources("convert")], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_private_imports_and_readable_length(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxdet"):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not private, f"{path} imports another file's {private}"
    assert len(path.read_text().splitlines()) <= 320, f"{path}: one job a file, about 300 lines"


def test_runs_without_torch_and_help_without_jax():
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
        "from jaxdet.cli.__main__ import make_parser; make_parser()\n"
        "assert 'jax' not in sys.modules, 'the parser imports JAX'\n"
        "import jaxdet, jaxdet_convert; jaxdet.create_model; jaxdet.predict; jaxdet.load; jaxdet_convert.load_torch\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_of_test_files_differ():
    """pytest imports a file by its bare name where its folder is no package: of two, one would not run."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").is_file()]
    names = [path.name for path in files]
    assert len(names) > 100
    assert sorted({name for name in names if names.count(name) > 1}) == []


def _names_of(path: Path) -> set[str]:
    """The identifiers in a file's code, those in annotations and imports included."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = {node.id for node in nodes if isinstance(node, ast.Name)}
    found |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return found | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def _model_classes() -> set[str]:
    from jaxdet.models import FAMILIES

    return {each.__name__ for family in FAMILIES for each in (family.config, family.model)}


@pytest.mark.parametrize("path", [*_sources("src"), *_sources("convert")], ids=lambda p: str(p.relative_to(ROOT)))
def test_only_its_own_folder_knows_a_family(path):
    """A family's classes are named in models/, backbones/ and the converter's sources; elsewhere at most exported."""
    parts = path.relative_to(ROOT).parts
    if path.name == "__init__.py" or {"models", "backbones"} & set(parts) or parts[2:3] in (("sources",),):
        return
    if parts[2:] in _MAY_NAME_A_FAMILY:
        return
    assert _names_of(path) & _model_classes() == set()


_MAY_NAME_A_FAMILY = {("detectors.py",), ("create.py",), ("runs", "headhunter.py")}  # earlier names, its cfg, its YAML


@pytest.mark.parametrize("path", [*_sources("src"), *_sources("convert")], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_outside_of_models_asks_what_kind_a_model_is(path):
    if "models" in path.relative_to(ROOT).parts:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
            assert not asked & (_model_classes() | {"Detector", "DetectorConfig", "Classifier", "BackboneConfig"})


@pytest.mark.parametrize("path", [*_sources("src"), *_sources("convert")], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_exported_name_hides_a_module(path):
    """``from package import name`` gives a module where nothing of that name is exported, and only there."""
    if path.name != "__init__.py":
        return
    siblings = {each.stem for each in path.parent.iterdir() if each.suffix == ".py" or (each / "__init__.py").is_file()}
    tree = ast.parse(path.read_text())
    exported = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(exported & siblings) == []
