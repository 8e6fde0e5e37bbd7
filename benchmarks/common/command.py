"""The command line of a benchmark."""

import argparse
from pathlib import Path

from benchmarks.common.images import default_data


def command_parser(
    module: str, text: str | None, examples: str | None = None, data: str | None = None, *, needs_data: bool = False
) -> argparse.ArgumentParser:
    """A parser with `--output`, and with `--data` where the benchmark takes images.

    Args:
        module: what follows `python -m`.
        text: docstring of the module; help begins with its first line.
        examples: the end of the help.
        data: what the folder must have; None: the benchmark takes no folder.
        needs_data: whether there must be a folder, given or the default one.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=(text or "").partition("\n")[0],
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if data is not None:
        default = default_data()
        required = needs_data and default is None
        parser.add_argument("--data", type=Path, default=default, required=required, metavar="FOLDER", help=data)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there, besides printing it")
    return parser
