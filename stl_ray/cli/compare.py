"""`stl-ray compare A B`: what changed from one experiment to another. Without torch and Ray."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from stl_ray.cli.say import say
from stl_ray.errors import ConfigError
from stl_ray.store import Storage

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from stl_ray.report import Comparison

DESCRIPTION = """\
What changed from experiment A to experiment B: the keys of the configuration that differ; for every classifier and setting
the accuracy of both behind every defense on every attack set, on the images that both have, with the paired difference
B - A, its 95 % interval and McNemar's p, plain and adjusted for all cells (Holm); and the cells that only one has. Read
from experiment.json and the stored predictions alone, so from anywhere. With --defenses it is one defense against another
on the same images, also of one experiment. docs/evaluation.md has the statistics."""

EXAMPLES = """\
examples:
  stl-ray compare runs/a runs/b
  stl-ray compare runs/a s3://bucket/b --output a-b.md     # the same as a page
  stl-ray compare runs/a runs/a --defenses jpeg stl        # two defenses of one experiment
  stl-ray compare runs/a runs/b --defenses none jpeg --output a-b.csv"""


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `compare`."""
    command = commands.add_parser(
        "compare", help="what changed between two experiments, or two defenses, on the same images",
        description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("first", metavar="A", help="an experiment's root")
    command.add_argument("second", metavar="B", help="the root of another, or the same")
    command.add_argument(
        "--defenses", nargs=2, metavar=("X", "Y"),
        help="compare defense X of A with defense Y of B; none: no defense [every defense with that of the same name]",
    )  # fmt: skip
    command.add_argument(
        "--output", metavar="FILE", help="write it too: a page, FILE.md, or the cells with all digits, FILE.csv"
    )
    command.set_defaults(function=_compare)


def _compare(options: argparse.Namespace) -> int:
    from stl_ray.report import blocks_text, compare_roots, comparison_sections

    write = None if options.output is None else _writer(options.output)
    comparison = compare_roots(options.first, options.second, options.defenses and tuple(options.defenses))
    blocks = (block for section in comparison_sections(comparison) for block in section.blocks)
    say(*blocks_text(blocks).split("\n"))
    if write is not None:
        storage, name = Storage.of_file(options.output)
        storage.write(name, write(comparison).encode())
    return 0


def _writer(file: str) -> "Callable[[Comparison], str]":
    """What makes the text of a file of that name."""
    from stl_ray.report import to_csv, to_markdown

    writers = {".md": to_markdown, ".csv": to_csv}
    for ending, write in writers.items():
        if file.endswith(ending):
            return write
    raise ConfigError(
        "no such format", item=f"--output {file}", expected=f"a name that ends with {' or '.join(writers)}"
    )
