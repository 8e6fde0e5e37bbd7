"""Splits by the names of files and folders, in Hugging Face's convention.

A name carries a split by a keyword between separators: `train-00000-of-00005.parquet`, `imagenet-train-000000.tar`,
`val2017`. Source: `datasets/data_files.py`, SPLIT_KEYWORDS and NON_WORDS_CHARS. Stricter than there, nothing is taken
where it is not certain: the case of letters does not matter, and a split that all names carry (as of a dataset with `test`
in its name), or several splits in one name, tell nothing.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from stl_ray.errors import InputError
from stl_ray.images.readers.base import Split
from stl_ray.images.readers.examples import first_of
from stl_ray.images.readers.matching import home, matching
from stl_ray.store import Storage

_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {keyword: split for split, keywords in _KEYWORDS.items() for keyword in keywords}
_SEPARATOR = "[-._ 0-9/]"
_KEYWORD = re.compile(rf"(?:^|(?<={_SEPARATOR}))({'|'.join(_SPLIT_OF)})(?={_SEPARATOR}|$)", re.IGNORECASE)


class Chosen(NamedTuple):
    """The files of a folder that a split takes, and how many it passes over, by their splits."""

    paths: list[str]
    passed_over: Counter[str]


def files_of(split: Split, place: Storage, suffixes: tuple[str, ...]) -> Chosen:
    """The files that a source's path means (see `matching`); of a folder only those of the split where names tell it.

    Raises:
        InputError: as `choose`.
    """
    paths, above = matching(place, suffixes), home(place, suffixes)
    inside = {posixpath.dirname(path) for path in paths}
    if {above.at(folder) for folder in inside} != {place.root}:
        return Chosen(paths, Counter())  # a file or a pattern, which says itself what it means
    names, passed_over = choose(split, [posixpath.basename(path) for path in paths], place)
    return Chosen([posixpath.join(*inside, name) for name in names], passed_over)


def choose(split: Split, names: Sequence[str], folder: Storage) -> Chosen:
    """The files of one split among all of a folder: all, where their names tell no splits apart.

    Args:
        split: the one that is wanted.
        names: of the files, relative to the folder.
        folder: for the patterns in the error.

    Raises:
        InputError: names tell splits apart, but not for every file, or none is of this split; with a pattern for each.
    """
    files: dict[str, list[str]] = {}
    silent: list[str] = []
    for name, told in zip(names, splits_of(names), strict=True):
        (silent if told is None else files.setdefault(told, [])).append(name)
    if not files:
        return Chosen(silent, Counter())
    if not silent and split in files:
        return Chosen(files.pop(split), Counter({other: len(others) for other, others in files.items()}))
    untold = f"the names of {len(silent)} of {len(names)} files do not tell of which split they are"
    ways = [_way(told, mine, names, folder) for told, mine in files.items()]
    ways.append(f"{folder.at(f'*{_ending(names[0])}')} for all {len(names)}")
    raise InputError(
        untold if silent else f"no file is of the split {split} by its name", item=folder.root,
        expected=f"a file or pattern, such as {', '.join(ways)}", got=first_of(silent) if silent else None,
    )  # fmt: skip


def splits_of(names: Sequence[str]) -> list[str | None]:
    """The one split by which each name differs from the others; None where that is none, or several."""
    each = [{_SPLIT_OF[keyword] for keyword in keywords_in(name)} for name in names]
    shared = set.intersection(*each) if each else set()
    telling = [splits - shared for splits in each]
    return [next(iter(splits)) if len(splits) == 1 else None for splits in telling]


def keywords_in(name: str) -> set[str]:
    """The keywords of splits in a name or path, in lower case."""
    return {match[1].lower() for match in _KEYWORD.finditer(name)}


def are_splits(names: Sequence[str]) -> bool:
    """Whether several names all carry keywords of splits, and not the same one: such folders are no classes."""
    each = [keywords_in(name) for name in names]
    return all(each) and len(set().union(*each)) > 1


def with_above(folders: Iterable[str]) -> set[str]:
    """Folders, by their paths, and all in which these lie, but the top."""
    found: set[str] = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    return found


def splits_inside(folders: Iterable[str], classes: Collection[str] = ()) -> list[str]:
    """The folders of one folder somewhere in a tree that are different splits, such as a/test and a/train; none if none are.

    A class may be called train: folders that are classes are splits only where all beside them carry a split too.

    Args:
        folders: paths of those that have images.
        classes: which of them name classes.
    """
    inside: dict[str, list[str]] = {}
    for folder in sorted(with_above(folders)):
        inside.setdefault(posixpath.dirname(folder), []).append(folder)
    for every in inside.values():
        told = [folder for folder in every if keywords_in(posixpath.basename(folder))]
        splits = told if told == every else [folder for folder in told if folder not in classes]
        if are_splits([posixpath.basename(folder) for folder in splits]):
            return splits
    return []


def _way(split: str, mine: Sequence[str], names: Sequence[str], folder: Storage) -> str:
    """The pattern to write for the files of a split, with their number; where there is none, what else to do."""
    count = f"{len(mine)} file{'s' * (len(mine) > 1)}"
    pattern = _pattern(split, mine, names)
    return f"{folder.at(pattern)} ({count})" if pattern else f"a folder for the {count} of {split} ({first_of(mine)})"


def _pattern(split: str, mine: Sequence[str], names: Sequence[str]) -> str | None:
    """A short pattern that matches some names and no others, if there is one."""
    starts = [f"{_head(split, mine[0])}*", *(f"*{keyword}*" for keyword in _KEYWORDS[split])]
    patterns = (start + _ending(mine[0]) for start in starts)
    return next((each for each in patterns if [name for name in names if fnmatchcase(name, each)] == mine), None)


def _head(split: str, name: str) -> str:
    """A name up to the keyword of its split, such as `imagenet-train-`."""
    match = next(match for match in _KEYWORD.finditer(name) if _SPLIT_OF[match[1].lower()] == split)
    return name[: match.end() + (name[match.end() :][:1] in ("-", "_"))]


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1]
