"""`stl-ray JOB CONFIG [key=value ...]`: parse, call, print the outcome, and return the exit code.

Exit codes: 0 everything planned is done; 1 something failed (the message says what and where); 2 wrong usage or
configuration; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from stl_ray import __version__
from stl_ray.cli import cluster, compare, defenses, init, jobs, roots, spaces
from stl_ray.cli.say import say, say_any_letter
from stl_ray.config.help import JOBS
from stl_ray.errors import ConfigError, InputError, StlRayError
from stl_ray.options import require_known
from stl_ray.runtime.signals import INTERRUPTED, interruptible
from stl_ray.text import plain


class _Parser(argparse.ArgumentParser):
    """Argparse quotes arguments as they are."""

    def error(self, message: str) -> NoReturn:
        super().error(plain(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    say_any_letter()
    whole, commands = _parsers()
    try:
        for command in [argument for argument in arguments if not argument.startswith("-")][:1]:
            require_known(command, commands, kind="command")  # argparse would not say which is the nearest
        options = whole.parse_args(arguments)
        with interruptible():
            return int(options.function(options))
    except (ConfigError, InputError) as error:
        say(*f"stl-ray: {error}".split("\n"), file=sys.stderr)
        return 2
    except StlRayError as error:
        say(*f"stl-ray: {type(error).__name__}: {error}".split("\n"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("stl-ray: interrupted; run the same command again to continue", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; the parsed options have the command's `function`."""
    return _parsers()[0]


def _parsers() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """The parser of all commands, and their names."""
    parser = _Parser(
        prog="stl-ray",
        description="Adversarial defense by stratified convolutional sparse coding, as batch jobs on a Ray cluster. "
        "The jobs in their order: " + ", ".join(JOBS) + ". Every job can be killed and run again: it continues.",
    )
    parser.add_argument("--version", action="version", version=f"stl-ray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (init, jobs, cluster, roots, compare, spaces, defenses):
        group.add_commands(commands)
    return parser, commands.choices
