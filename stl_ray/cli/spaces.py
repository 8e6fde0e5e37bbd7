"""`stl-ray describe SPACE` and `stl-ray import FILE.npy SPACE`."""

import argparse
from typing import TYPE_CHECKING

from stl_ray.cli.say import say
from stl_ray.errors import InputError
from stl_ray.store import Storage, artifact_kind, load_artifact, spaces_at
from stl_ray.uris import joined

if TYPE_CHECKING:
    from argparse import _SubParsersAction

DESCRIBE = """\
A page on a space: its digest, its hyper-parameters, how it was made, and how well its autoencoder and dictionaries do
on held-out images; and pictures of its filters, of the images of every cluster, and of how many clusters it might have
had. What a space does not have is left out: an imported dictionary has no clusters. Of a root with several spaces it
says the names. Of another artifact, such as what a defense was fitted with (artifacts/KIND-KEY): its digest, its arrays,
and its record. Needs neither torch nor Ray."""

DESCRIBE_EXAMPLES = """\
examples:
  stl-ray describe runs/quickstart                        # pictures in runs/quickstart/spaces/natural/portrait
  stl-ray describe runs/quickstart/spaces/natural --output portrait

The digest is the one by which shards purified by stl_cluster, and classifiers trained on them, name the space (stl
names that of the universal dictionary alone, and a defense with a lambda of its own that of the space at it). What a
shard names:
  python -c "import pyarrow.parquet as pq; print(pq.read_schema('part.parquet').metadata[b'stl_ray'])\""""

IMPORT = """\
Make a space of one of the authors' published dictionaries: a .npy file of (S, S, C, K) floats, channels in BGR order,
named K_pS_lmLAMBDA.npy. The space has that one dictionary, in RGB, and no clusters. Files that hold Python objects are
refused, and so is a folder that holds another space."""

IMPORT_EXAMPLES = """\
examples:
  stl-ray import 64_p8_lm0.2.npy spaces/authors
  stl-ray import filters.npy spaces/filters --lmbda 0.1   # a name that does not say lambda
  stl-ray describe spaces/authors

In Python: QuasiNaturalSpace.load("spaces/authors"). An experiment takes such a file, or the space made of it, as
`spaces: [{name: authors, load: 64_p8_lm0.2.npy}]`; the defense stl projects onto it."""


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `describe` and `import`."""
    portrait = commands.add_parser(
        "describe", help="a page and pictures of a fitted or imported space; the record of another artifact", description=DESCRIBE,
        epilog=DESCRIBE_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    portrait.add_argument(
        "space", metavar="SPACE", help="folder of a space or of another artifact, or an experiment's root"
    )
    portrait.add_argument("--output", metavar="FOLDER", help="where the pictures go [SPACE/portrait]")
    portrait.set_defaults(function=_describe)
    imported = commands.add_parser(
        "import", help="a space from one of the authors' .npy dictionaries", description=IMPORT,
        epilog=IMPORT_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    imported.add_argument("file", metavar="FILE.npy", help="the dictionary, a path or URI")
    imported.add_argument("space", metavar="SPACE", help="folder to write the space to")
    imported.add_argument("--lmbda", type=float, metavar="X", help="lambda it was learned at [from the file's name]")
    imported.set_defaults(function=_import)


def _describe(options: argparse.Namespace) -> int:
    from stl_ray.report import indented, portrait_text, portray, portray_artifact, read_space

    kind = artifact_kind(options.space)
    if kind is not None and kind != "space":
        artifact = portray_artifact(load_artifact(options.space, kind, None))
        say(f"The {kind} in {Storage.open(options.space).root}", "", *portrait_text(artifact).split("\n"))
        return 0
    folder, *more = spaces_at(options.space)
    if more:
        say(f"{options.space} has {1 + len(more)} spaces; describe one of them:", folder, *more)
        return 0
    portrait = portray(read_space(folder))
    say(f"The space in {folder}", "", *portrait_text(portrait).split("\n"))
    paths = portrait.save_figures(options.output or joined(folder, "portrait"))
    for path, figure in zip(paths, portrait.figures, strict=True):
        say("", path, *indented(figure.caption).split("\n"))
    return 0


def _import(options: argparse.Namespace) -> int:
    from stl_ray.space import QuasiNaturalSpace, imported_space

    space = imported_space(options.file, options.lmbda)
    storage = Storage.open(options.space)
    if storage.exists("space.json"):
        existing = QuasiNaturalSpace.load(options.space)
        if existing.digest != space.digest:
            raise InputError(
                "another space is there already; give another folder", item=storage.root, expected=space.digest,
                got=existing.digest,
            )  # fmt: skip
    else:
        space.save(options.space)
    dictionary = space.universal_dictionary
    count, side = len(dictionary.filters), dictionary.side
    say(
        f"{storage.root}: a space of {count} filters of {side} x {side} pixels at lambda {space.lmbda:g}, "
        f"digest {space.digest}"
    )
    return 0
