"""The ``jaxdet`` command. Each subcommand is a module of `jaxdet.cli`; JAX is imported only when one runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from jaxdet.cli.images import apply_image_arguments
from jaxdet.compilation_cache import set_cache_variables

COMMANDS = (
    "convert",
    "detect",
    "classify",
    "data",
    "train",
    "evaluate",
    "lists",
    "plan",
    "export",
    "summary",
    "parity",
    "shapes",
    "demo",
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Each command's module has ``add_arguments`` and ``run``."""
    parser = argparse.ArgumentParser(prog="jaxdet", description="Object detection in JAX, with PyTorch's numbers.")
    parser.add_argument("--version", action="store_true", help="print the versions of jaxdet and JAX, and the devices")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in COMMANDS:
        module = importlib.import_module(f"jaxdet.cli.{name}")
        line = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(
            name, help=line, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    A user's mistake prints one line on standard error and returns 1.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.version:
        return _print_version()
    if args.command is None:
        parser.print_help()
        return 0
    set_cache_variables()  # before JAX is imported
    if not hasattr(args, "coordinator"):  # a command of one process
        return _run(args.run, args)
    from jaxdet.cli.hosts import run_command

    return run_command(args, sys.argv[1:] if argv is None else argv, _run)


def _run(function: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    from jaxdet.extras import require_buckets

    try:
        apply_image_arguments(args)
        require_buckets(_text_arguments(vars(args)))
        return function(args) or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `jaxdet ... | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        line = _user_error_line(error)
        if line is None or os.environ.get("JAXDET_TRACEBACK"):
            raise
        print(f"jaxdet {args.command}: {line}", file=sys.stderr)
        return 1


def _text_arguments(values: dict[str, object]) -> list[str]:
    """The strings among a command's arguments, except ``local_only`` ones, in which the command itself refuses URLs."""
    local = values.get("local_only", ())
    given = [value for name, value in values.items() if name not in local]  # type: ignore[operator]
    found = [item for value in given for item in (value if isinstance(value, list) else [value])]
    return [item for item in found if isinstance(item, str)]


def _user_error_line(error: Exception) -> str | None:
    """One line for an error that the user can correct; None for other errors, which need their traceback."""
    if isinstance(error, OSError | ValueError | FloatingPointError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"this needs {error.name}, which is not installed"
    if "RESOURCE_EXHAUSTED" in str(error):
        first = str(error).strip().splitlines()[0][:200]
        return f"the device has too little memory; use a smaller batch or smaller images ({first})"
    return None


def _print_version() -> int:
    import jax

    import jaxdet

    print(f"jaxdet {jaxdet.__version__}, jax {jax.__version__}, {', '.join(str(device) for device in jax.devices())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
