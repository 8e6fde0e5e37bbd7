"""Counts of what a source holds beside its images, by extension, so that no file is left out in silence."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from stl_ray.images.readers.names import extension, is_hidden
from stl_ray.store import FileInfo
from stl_ray.text import plain

# A file's number or date may look like an extension: the kinds after these are counted together.
_MOST_KINDS, _OTHERS = 50, "other"
_MOST_NAMED = 20
_SHOWN = 5


@dataclass
class LeftOut:
    """Counts of the files, folders and links that give no image.

    Attributes:
        files: files with another extension than an image's, by extension.
        beside: files beside the folders of the classes, by extension.
        splits: files of other splits than the one that is read, by split.
        folders: sub-folders of a folder of tars or Parquet files.
        hidden: hidden files and folders, and those that systems leave.
        links: symbolic links that are not followed, or lead nowhere.
        first_links: the first of these links.
        empty: classes whose folders have no image.
        first_empty: the first of these classes.
        at_least: 1 where the listing ended early, because `limit` was reached.
    """

    files: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    hidden: int = 0
    links: int = 0
    first_links: list[str] = field(default_factory=list)
    empty: int = 0
    first_empty: list[str] = field(default_factory=list)
    at_least: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "LeftOut":
        """The counts of a `record`."""
        known = {key: record[key] for key in record if key in {field.name for field in fields(cls)}}
        return cls(**{**known, **{key: Counter(record.get(key)) for key in ("files", "beside", "splits")}})

    def record(self) -> dict[str, Any]:
        """The counts that are not zero; JSON-able."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}

    def add(self, file: FileInfo, *, beside: bool = False) -> None:
        """Count a file.

        Args:
            file: of the source.
            beside: whether it lies beside the folders of the classes.
        """
        if file.leads_to is not None or file.size < 0:
            self.links += 1
            self.first_links = [*self.first_links, plain(file.path)][:_MOST_NAMED]
        else:
            self.add_names([file.path], beside=beside)

    def add_names(self, paths: Iterable[str], *, beside: bool = False) -> None:
        """Count files by their names."""
        counts = self.beside if beside else self.files
        for path in paths:
            if is_hidden(path):
                self.hidden += 1
            else:
                kind = plain(extension(path))
                counts[kind if kind in counts or len(counts) < _MOST_KINDS else _OTHERS] += 1

    def add_empty(self, class_name: str) -> None:
        """Count a class without images."""
        self.empty += 1
        self.first_empty = [*self.first_empty, plain(class_name)][:_MOST_NAMED]

    def merge(self, other: "LeftOut") -> None:
        """Add the counts of another."""
        self.files += other.files
        self.beside += other.beside
        self.splits += other.splits
        self.folders += other.folders
        self.hidden += other.hidden
        self.links += other.links
        self.first_links = [*self.first_links, *other.first_links][:_MOST_NAMED]
        self.empty += other.empty
        self.first_empty = [*self.first_empty, *other.first_empty][:_MOST_NAMED]
        self.at_least |= other.at_least

    def text(self) -> str:
        """The counts in words, such as `10 .txt, 2 .mov, 4 hidden`; empty where nothing is left out."""
        parts = _kinds(self.files, "")
        parts += _kinds(self.beside, " beside the classes")
        parts += [f"{count} file{'s' * (count > 1)} of {split}" for split, count in sorted(self.splits.items())]
        parts += [f"{self.folders} sub-folder{'s' * (self.folders > 1)}"] if self.folders else []
        parts += [f"{self.hidden} hidden"] if self.hidden else []
        parts += [_named(self.links, "link", "links", self.first_links)] if self.links else []
        return ("at least " if self.at_least and parts else "") + ", ".join(parts)

    def empty_text(self) -> str:
        """The classes without images in words, such as `1 class has no image (owl)`; empty where there are none."""
        return _named(self.empty, "class has no image", "classes have no image", self.first_empty) if self.empty else ""


def _named(count: int, one: str, several: str, first: list[str]) -> str:
    more = ", ..." if count > _SHOWN else ""
    return f"{count} {one if count == 1 else several} ({', '.join(first[:_SHOWN])}{more})"


def _kinds(counts: Counter[str], where: str) -> list[str]:
    """The most frequent extensions with their counts, and the others together."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{count} {kind or 'without extension'}{where}" for kind, count in ordered[:_SHOWN]]
    rest = sum(count for _, count in ordered[_SHOWN:])
    return [*shown, f"{rest} of {len(ordered) - _SHOWN} other kinds{where}"] if rest else shown
