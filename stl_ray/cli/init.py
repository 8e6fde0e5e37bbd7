"""`stl-ray init KIND`: a commented configuration to begin with, from flags, or on a terminal from a few questions.

What it writes is checked as a job would check it, before it is written.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from stl_ray.cli.say import say
from stl_ray.config import bundled, read_experiment
from stl_ray.config.classifiers import IMAGENET, LIBRARIES, is_function, is_published
from stl_ray.config.help import JOBS
from stl_ray.config.values import inline
from stl_ray.errors import ConfigError, InputError
from stl_ray.options import named
from stl_ray.uris import is_uri, joined, on_disk

if TYPE_CHECKING:
    from argparse import _SubParsersAction


class Kind(NamedTuple):
    """A kind of configuration.

    Attributes:
        summary: what it is for.
        jobs: those to run, in their order.
        asks: the flags that it takes, in the order of the questions.
    """

    summary: str
    jobs: tuple[str, ...]
    asks: tuple[str, ...]


_AS_IT_IS = ("ingest", "attack", "evaluate", "report")
_OWN = ("classifier", "weights", "images", "size", "space")

KINDS = {
    "my-classifier": Kind("your classifier, as it is, on your test images: JPEG, STL, attacks", _AS_IT_IS, _OWN),
    "sweep": Kind("the same with grids: a row for every quality, lambda and budget", _AS_IT_IS, _OWN),
    "cifar10": Kind("the paper's experiments on CIFAR-10: spaces and classifiers are made here", (*JOBS,), ("images",)),
    "imagenet": Kind("the paper's on ImageNet at 224 x 224, for a cluster", (*JOBS,), ("images",)),
}

_FLAGS = {
    "classifier": "torchvision:NAME, timm:NAME, or module:function that returns a torch module on [0, 1] images",
    "weights": "a file with its state dict, or published ones",
    "images": "the images: a folder with one sub-folder per class, or Parquet or tar files; of cifar10 and imagenet the "
    "folder of the whole data set",
    "size": "pixels a side that the classifier takes",
    "space": "what stl projects onto: an authors' .npy dictionary, a space, or another experiment's root",
}
"""The flags, with what they hold."""

_IMAGES = {"cifar10": "data/cifar-10-batches-py", "imagenet": "/mnt/shared/imagenet"}
"""Where the bundled configurations have the images."""

DESCRIPTION = """\
Write a commented configuration to begin with; no file is overwritten. Kinds:
""" + "\n".join(f"  {name:<15}{kind.summary}" for name, kind in KINDS.items())

EPILOG = """\
On a terminal and without flags it asks, each question with a default; a flag that is left out has that default.

examples:
  stl-ray init                                                                 # asks what it needs to know
  stl-ray init my-classifier --classifier mypackage:make --images photographs  # into my-classifier.yaml
  stl-ray init my-classifier --classifier timm:resnet18 --images val --space 64_p8_lm0.2.npy --output timm.yaml
  stl-ray init cifar10 --images data/cifar-10-batches-py

It says the commands to run next. docs/your-classifier.md is a walk through them."""


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `init`."""
    command = commands.add_parser(
        "init", help="write a commented configuration to begin with", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("kind", nargs="?", metavar="KIND", help=f"{', '.join(KINDS)}")
    for flag, meaning in _FLAGS.items():
        command.add_argument(f"--{flag}", metavar=flag.upper(), help=meaning)
    command.add_argument("--output", metavar="FILE", help="the file to write [KIND.yaml]")
    command.set_defaults(function=_init)


def _init(options: argparse.Namespace) -> int:
    given = {flag: value for flag in _FLAGS if (value := getattr(options, flag)) is not None}
    asking = not given and sys.stdin is not None and sys.stdin.isatty()
    if options.kind is None and asking:
        say(*(f"{name:<15}{kind.summary}" for name, kind in KINDS.items()))
        options.kind = _answer("kind", next(iter(KINDS)))
    if options.kind is None:
        raise ConfigError("no kind of configuration is given", item="init", expected=f"one of {', '.join(KINDS)}")
    kind = named(KINDS, options.kind, kind="kind of configuration")
    file = on_disk(options.output or f"{options.kind}.yaml")
    if file.exists():
        raise _there_already(file)
    if strange := sorted(given.keys() - set(kind.asks)):
        expected = ", ".join(f"--{flag}" for flag in kind.asks)
        raise ConfigError("not of this kind", item=f"--{strange[0]}", expected=f"of {options.kind} {expected}")
    answers: dict[str, str | None] = {}
    for flag in kind.asks:
        default = _default(options.kind, flag, answers)
        answers[flag] = given.get(flag, default) if not asking else _answer(f"{flag} ({_FLAGS[flag]})", default)
    if (size := answers.get("size")) is not None and not size.isdecimal():
        raise ConfigError("not a number of pixels", item="size", expected="such as 224", got=size)
    text = configuration(options.kind, answers, file.stem)
    from stl_ray.pipeline.preflight import preflight

    preflight(read_experiment(text, item=str(file)), *kind.jobs)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as output:
            output.write(text)
    except FileExistsError as error:
        raise _there_already(file) from error
    except OSError as error:
        raise InputError(f"cannot be written ({error})", item=file) from error
    quoted = shlex.quote(str(options.output or file.name))
    say(f"{file} is written: read it, change what you like, then run")
    say(*(f"  stl-ray {job} {quoted}" for job in kind.jobs))
    say("With --dry-run a job says what it would take; stl-ray JOB --help explains every key.")
    return 0


def configuration(kind: str, answers: Mapping[str, str | None], stem: str) -> str:
    """The text of a configuration.

    Args:
        kind: a key of `KINDS`.
        answers: by flag of the kind, None for nothing.
        stem: of the file, which names an experiment that is the user's own.
    """
    if kind in _IMAGES:
        return _with_images(kind, answers["images"] or _IMAGES[kind])
    classifier, images = answers["classifier"] or "", answers["images"] or ""
    library, _, own = classifier.partition(":")
    name = _as_name(stem) or kind
    texts = {
        **answers,
        "name": name,
        "root": f"runs/{name}",
        "format": _format_of(images),
        "classifier_name": (_as_name(own) if library in LIBRARIES else "") or "mine",
        "classes": IMAGENET if is_published(answers["weights"] or "") else None,
    }
    values = {
        key: None if text is None else inline(int(text) if key == "size" else text) for key, text in texts.items()
    }
    return _template().render(values, sweep=kind == "sweep", is_function=is_function(classifier))


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("stl_ray.cli"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("own.yaml")


def _with_images(kind: str, images: str) -> str:
    """A bundled configuration with another place of its images, and of the splits below it."""
    text = Path(bundled(kind)).read_text(encoding="utf-8")
    place = re.compile(rf"(?<=path: ){re.escape(_IMAGES[kind])}(?:/(\w+))?")
    return place.sub(lambda match: inline(joined(images, match[1]) if match[1] else images), text)


def _default(kind: str, flag: str, answers: Mapping[str, str | None]) -> str | None:
    """What a flag is that is not given, by the answers before it."""
    classifier = answers.get("classifier") or ""
    if flag == "classifier":
        return "torchvision:resnet50"
    if flag == "images":
        return _IMAGES.get(kind, "data/test")
    if flag == "weights":
        from stl_ray.models import published_weights

        return published_weights(classifier)
    return "224" if flag == "size" and classifier.partition(":")[0] in LIBRARIES else None


def _answer(question: str, default: str | None) -> str | None:
    try:
        return input(f"{question} [{default or 'none'}]: ").strip() or default
    except EOFError:
        raise KeyboardInterrupt from None


def _format_of(images: str) -> str:
    """The format of a place of images, by its name or by what lies in the folder."""
    for format, extension in (("parquet", ".parquet"), ("tar", ".tar")):
        folder = None if is_uri(images) else Path(images)
        if images.lower().endswith(extension) or (folder and any(folder.glob(f"*{extension}"))):
            return format
    return "folder"


def _as_name(text: str) -> str:
    """A text as a name of a part, as near as can be; empty where nothing of it can be one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:100]


def _there_already(file: Path) -> InputError:
    return InputError("is there already, and nothing is overwritten", item=file, expected="another --output")
