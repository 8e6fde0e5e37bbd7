"""The classes that a classifier answers, and which of them a data set's classes are.

A data set may have fewer classes than the classifier, such as ten folders of ImageNet's in front of a network of a thousand.
They are found by name; a class that is not found for certain is refused, since it would be scored as wrong.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence

from stl_ray.config.classifiers import IMAGENET
from stl_ray.errors import ConfigError, InputError
from stl_ray.models import imagenet
from stl_ray.options import closest
from stl_ray.store import Storage

_NUMBERED = 900
"""Classes that are named 0, 1, ... are ImageNet's places from this many on; fewer may be a data set's own numbers."""


def classes_of(given: str | Sequence[str] | None, dataset: Sequence[str]) -> tuple[str, ...]:
    """The classes of a classifier, in the order of its logits.

    Args:
        given: None: the data set's; `imagenet`; the names; or the path or URI of a file with one name a line, or, where it
            ends in .json, a list of names.
        dataset: the data set's.

    Raises:
        StorageError: there is no such file.
        InputError: it is no such file, or names no class.
        ConfigError: no class is given.
    """
    if given is None:
        return tuple(dataset)
    if given == IMAGENET:
        return imagenet.NAMES
    if isinstance(given, str):
        return _read(given)
    if not given:
        raise ConfigError("a classifier needs classes", item="classes", expected="at least one", got="none")
    return tuple(given)


def logits_of(dataset: Sequence[str], classifier: Sequence[str], item: str) -> tuple[int, ...]:
    """The logit of each class of a data set.

    Names are the same where they are written so, or else where their words are. For a classifier of ImageNet's 1000 classes,
    however it names them, a data set may name them in any way of `stl_ray.models.imagenet`.

    Args:
        dataset: the classes of the data set, in the order of its labels.
        classifier: those of the classifier, in the order of its logits.
        item: the classifier, for messages.

    Raises:
        ConfigError: a class is none of the classifier's or may be several, or two are the same one.
    """
    if tuple(dataset) == tuple(classifier):
        return tuple(range(len(dataset)))
    if imagenet.in_order(classifier):
        if imagenet.in_order(dataset):
            return tuple(range(len(dataset)))
        _require_no_own_numbers(dataset, item)
        found = {name: imagenet.candidates(name) for name in dataset}
        classifier = [f"{wnid} {name}" for wnid, name in zip(imagenet.WNIDS, imagenet.NAMES, strict=True)]
        known = imagenet.NAMES
    else:
        found, known = _by_words(dataset, classifier), tuple(classifier)
    _require_one_each(dataset, found, classifier, known, item)
    return tuple(min(found[name]) for name in dataset)


def _by_words(dataset: Sequence[str], classifier: Sequence[str]) -> dict[str, frozenset[int]]:
    exact: dict[str, list[int]] = {}
    alike: dict[str, list[int]] = {}
    for place, name in enumerate(classifier):
        exact.setdefault(name, []).append(place)
        alike.setdefault(imagenet.same_words(name) or name, []).append(place)
    return {name: frozenset(exact.get(name) or alike.get(imagenet.same_words(name), [])) for name in dataset}


def _require_one_each(
    dataset: Sequence[str],
    found: dict[str, frozenset[int]],
    classifier: Sequence[str],
    known: Sequence[str],
    item: str,
) -> None:
    """Refuse classes without a logit, with several, and two with the same."""
    unknown = [name for name in dataset if not found[name]]
    if unknown:
        close = closest(unknown[0], known)
        expected = f"each among its {len(classifier)}" + (f"; the nearest to {unknown[0]}: {close}" if close else "")
        raise ConfigError(
            "the classifier does not know all classes of the data set", item=item, expected=expected, got=_some(unknown)
        )
    several = [
        f"{name} ({' or '.join(classifier[place] for place in sorted(found[name]))})"
        for name in dataset
        if len(found[name]) > 1
    ]
    if several:
        raise ConfigError(
            "a class of the data set may be several of the classifier's",
            item=item, expected="a name that is one's alone", got=_some(several),
        )  # fmt: skip
    logit, times = Counter(min(found[name]) for name in dataset).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            "several classes of the data set are one of the classifier's",
            item=f"{item}, {classifier[logit]}", expected="one", got=_some([n for n in dataset if logit in found[n]]),
        )  # fmt: skip


def _require_no_own_numbers(dataset: Sequence[str], item: str) -> None:
    numbers = sorted(int(name) for name in dataset if re.fullmatch("[0-9]+", name))
    if numbers == list(range(len(dataset))) and len(dataset) < _NUMBERED:
        raise ConfigError(
            "the data set's classes are numbers, which may be its own instead of ImageNet's",
            item=item, expected="names or WordNet's ids of ImageNet's classes", got=f"0 to {len(dataset) - 1}",
        )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _read(uri: str) -> tuple[str, ...]:
    storage, file = Storage.of_file(uri)
    try:
        text = storage.read(file).decode("utf-8-sig")
        names = json.loads(text) if file.lower().endswith(".json") else [line.strip() for line in _lines(text)]
    except ValueError as error:
        raise InputError(
            f"no list of classes ({error})", item=uri, expected="a name a line, or a list in JSON"
        ) from error
    if not isinstance(names, list) or not names:
        got = type(names).__name__ if names else "none"
        raise InputError("no list of classes", item=uri, expected="the names in the order of the logits", got=got)
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise InputError("a class without a name", item=f"{uri}, class {place}", expected="a name", got=repr(name))
    return tuple(names)


def _lines(text: str) -> list[str]:
    return text.rstrip().split("\n") if text.strip() else []
