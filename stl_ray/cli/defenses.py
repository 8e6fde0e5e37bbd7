"""`stl-ray defenses [NAME]`: the defenses that there are, and the options of one."""

import argparse
import inspect
import sys
from typing import TYPE_CHECKING

from stl_ray.cli.given import find_modules_here
from stl_ray.cli.say import say
from stl_ray.config.classifiers import is_function
from stl_ray.config.help import explain_options

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from stl_ray.defenses.registry import Row

DESCRIPTION = """\
The defenses by the names that `defenses` of an experiment knows them by; of one, where it comes from and every option
with its type, default and meaning. One of your own is module:function, of a module in this folder or on Python's path.
docs/defenses.md has what to beware of, and how to write one."""

EXAMPLES = """\
examples:
  stl-ray defenses                  # all of them
  stl-ray defenses pixel_deflection # its options
  stl-ray defenses mydefenses:smoothed # those of one of your own, as its signature has them"""


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `defenses`."""
    listed = commands.add_parser(
        "defenses", help="the defenses, and the options of one", description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    listed.add_argument("name", metavar="NAME", nargs="?", help="of a defense, or module:function [all]")
    listed.set_defaults(function=_defenses)


def _defenses(options: argparse.Namespace) -> int:
    from stl_ray.defenses import DEFENSES, row_of  # brings torch
    from stl_ray.models.functions import function_of

    if options.name is None:
        width = max(map(len, DEFENSES))
        say(*(f"{name.ljust(width)}  {_summary(row)}" for name, row in DEFENSES.items()))
        return 0
    own = is_function(options.name)
    if own:
        find_modules_here()
    row = row_of(options.name)
    keys = explain_options(row.options) or "  none"
    source = (inspect.getdoc(function_of(options.name)) or options.name) if own else _source(row)
    written = f'"{options.name}"' if own else options.name
    entry = f"an entry of `defenses`: {{name: NAME, defense: {written}, options: {{...}}}}"
    say(*source.split("\n"), "", f"{entry}, with the options", *keys.split("\n"))
    return 0


def _summary(row: "Row") -> str:
    """The first sentence of `_source`."""
    return _source(row).partition("\n")[0].partition(". ")[0].removesuffix(".")


def _source(row: "Row") -> str:
    """What a defense does and where it comes from, as its file says."""
    return inspect.getdoc(sys.modules[row.defense.__module__]) or ""
