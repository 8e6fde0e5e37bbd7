"""`stl-ray verify FOLDER`."""

import argparse
from typing import TYPE_CHECKING

from stl_ray.errors import InputError, StlRayError
from stl_ray.store import Storage, runs_below, verify

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `verify`."""
    audit = commands.add_parser(
        "verify",
        help="recount a finished dataset, or all of an experiment, from its bytes",
        description="Recount ids, rows, sha256 and schema of a dataset, or of every dataset below an experiment's root.",
    )
    audit.add_argument("folder", help="a dataset's folder or an experiment's root")
    audit.set_defaults(function=_verify)


def _verify(options: argparse.Namespace) -> int:
    root = Storage.open(options.folder)
    folders = runs_below(root)
    if not folders:
        raise InputError("no finished dataset at or below this folder", item=root.root, expected="a MANIFEST.json")
    failures = 0
    for folder in folders:
        try:
            counts = verify(root.at(folder))
        except StlRayError as error:
            failures += 1
            print(f"{folder or root.root}: FAILED: {error}")
        else:
            print(
                f"{folder or root.root}: {counts['rows']} rows in {counts['parts']} parts, "
                f"{counts['quarantined']} quarantined, sound"
            )
    return 1 if failures else 0
