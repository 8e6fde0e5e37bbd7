"""Plain tars of images, read where they lie: ImageNet's, one for each class; of a tree of folders; WebDataset's.

A class is the last folder of an image's path in the tar, such as `n01440764` of `train/n01440764/1.JPEG`; where images
lie in no folder, the name of the tar, such as `n01440764.tar`. Where labels lie in the tars (WebDataset), these are taken
in all of them; `tar_labels.py` has the rules.

Images keep the order of the tars, which is the order of their paths, and their order in the tar: with one tar for each
class, `limit` takes the first classes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import pyarrow as pa

from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images.readers.base import RawImage, SourceShard, Split, label_problem, ranges, shard_digest
from stl_ray.images.readers.class_order import Order, ordered
from stl_ray.images.readers.duplicates import hashes_of, repeated
from stl_ray.images.readers.fetching import LISTINGS, in_order
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.matching import beside, home, stems
from stl_ray.images.readers.names import extension, folders_of
from stl_ray.images.readers.places import Places
from stl_ray.images.readers.splits import Chosen, are_splits, files_of, splits_inside
from stl_ray.images.readers.tar_file import BLOCK, NO_BYTES, TarIndex, is_header, read_range
from stl_ray.images.readers.tar_join import key_of
from stl_ray.images.readers.tar_labels import CLASSES, Tar, TarLabels, class_of, classes_in, find_labels, unused
from stl_ray.store import Storage

_COMPRESSED = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")
_SUFFIXES = (".tar", *_COMPRESSED)

_CHUNK = 8 * 2**20  # bytes of a request: at 100 MB/s its latency no longer counts
_CHUNKS = 4  # requests at once, and chunks in memory before their turn

# A chunk's positions in its shard.
Chunk = list[int]


@dataclass
class TarReader:
    """Encoded images from the members of one or more tars.

    Ids are `<name of the tar>/<path in it>`, and for WebDataset `<name of the tar>/<key>`, but the path where a key has
    several images.

    Args:
        place: a tar, a folder (its `*.tar` files, not those of sub-folders) or a pattern.
        split: which files of a folder, where their names tell.
        limit: images to take, all when None.
        class_order: of the names of folders or tars.
    """

    place: Storage
    split: Split
    limit: int | None = None
    class_order: Order = "text"

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the folders, or of the tars; for WebDataset the lines of classes.txt, or else numbers or names.

        Raises:
            InputError: there are no tars, one cannot be used, labels are not certain (`tar_labels.py`), splits are not
                (`splits.py`), or the names have no such order.
        """
        if self._labels is not None:
            self._refuse_splits(splits_inside(self._folders))
            return self._labels.class_names
        names = sorted(set().union(*map(classes_in, self._tars)))
        # A folder with images is a class here.
        self._refuse_splits(names if are_splits(names) else splits_inside(self._folders, self._folders))
        return ordered(names, self.class_order, self.place.root)

    @property
    def left_out(self) -> LeftOut:
        """The members of the tars that are neither images nor labels, what is beside the tars, and tars of other splits."""
        left_out = beside(self.place, _SUFFIXES)
        left_out.splits += self._chosen.passed_over
        if self._labels is not None and self._labels.listed is not None:
            left_out.files -= Counter([extension(CLASSES)])
        for tar in self._tars:
            left_out.merge(tar.index.left_out)
            left_out.merge(unused(tar.index, () if self._labels is None else self._labels.kinds))
        return left_out

    @property
    def places(self) -> Places:
        """The files."""
        return Places.of_files(self._folder, self._paths)

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Ranges of a tar's images, with their offsets. The digest covers the tar's size and headers, not every pixel.

        Raises:
            InputError: as for `class_names`, or no images.
        """
        classes = {name: label for label, name in enumerate(self.class_names)}
        left = sum(tar.index.images for tar in self._tars) if self.limit is None else self.limit
        if not any(tar.index.images for tar in self._tars):
            expected = (
                "images in it; tars within tars have to be unpacked first" if self._tars_inside else "images in it"
            )
            raise InputError("the tars hold no images", item=self.place.root, expected=expected)
        for tar in self._tars:
            if not left:
                return
            table = tar.index.rows
            again = set() if self._labels else set(_repeated(table))
            if self._labels:
                label, several = self._labels.of(tar.index)
                table = table.append_column("label", label).append_column("several", several)
            taken = min(tar.index.images, left)
            for start, stop in ranges(taken, shard_size):
                rows = table.slice(start, stop - start).to_pydict()
                source = {
                    "file": tar.file,
                    "stem": tar.stem,
                    "paths": rows["path"],
                    "starts": rows["start"],
                    "sizes": rows["size"],
                    "labels": rows["label"] if self._labels else [classes[class_of(tar.stem, p)] for p in rows["path"]],
                    "keys": self._labels is not None,
                    "duplicates": [row - start for row in range(start, stop) if row in again],
                    "classes": len(classes),
                }
                if self._labels and any(rows["several"]):
                    source["several"] = [row for row, several in enumerate(rows["several"]) if several]
                yield SourceShard(source, stop - start, shard_digest(tar.index.digest, source))
            left -= taken

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the planned images, by a few large requests.

        Raises:
            InputError: the tar is gone, has become shorter, or holds something else at the images' offsets.
        """
        read = partial(self._read, source, frozenset(source["duplicates"]))
        return chain.from_iterable(in_order(read, _chunks(source), threads=_CHUNKS, ahead=_CHUNKS))

    def _read(self, source: dict[str, Any], duplicates: frozenset[int], chunk: Chunk) -> list[RawImage]:
        starts, sizes = source["starts"], source["sizes"]
        first = starts[chunk[0]] - BLOCK
        data = read_range(self._folder, source["file"], first, _end(source, chunk[-1]))
        images = []
        for row in chunk:
            path, label, begin = source["paths"][row], source["labels"][row], starts[row] - first
            by_key = source["keys"] and row not in source.get("several", ())
            name = f"{source['stem']}/{key_of(path) if by_key else path}"
            if sizes[row] == NO_BYTES:
                images.append(RawImage(name, None, label, path, QuarantineReason.MISSING_IMAGE))
                continue
            if not is_header(data[begin - BLOCK : begin]):
                item, expected = self._folder.at(source["file"]), f"{path} at byte {starts[row]}"
                raise InputError("the tar is not the one that was planned", item=item, expected=expected)
            again = QuarantineReason.DUPLICATE_ID if row in duplicates else None
            problem = again or label_problem(label, source["classes"])
            images.append(RawImage(name, data[begin : begin + sizes[row]], label, path, problem))
        return images

    def _refuse_splits(self, names: list[str]) -> None:
        if names:
            raise InputError(
                "the folders, or tars, are splits, not classes", item=self.place.root,
                expected="folders of classes, in tars of their own for each split", got=", ".join(names),
            )  # fmt: skip

    def _listed(self) -> list[str] | None:
        """The lines of classes.txt; None without it."""
        if not self._folder.exists(CLASSES):
            return None
        try:
            names = [line.strip() for line in self._folder.read(CLASSES).decode("utf-8-sig").rstrip().splitlines()]
        except UnicodeDecodeError as error:
            raise InputError("not a text in UTF-8", item=self._folder.at(CLASSES)) from error
        if not all(names) or len(set(names)) < len(names):
            expected = "one name on every line, each once"
            raise InputError("no list of classes", item=self._folder.at(CLASSES), expected=expected)
        return names

    @property
    def _tars_inside(self) -> bool:
        return any(tar.index.tars for tar in self._tars)

    @cached_property
    def _labels(self) -> TarLabels | None:
        return find_labels(self._tars, self._listed, self.place.root)

    @property
    def _folders(self) -> set[str]:
        """The folders in the tars that have images."""
        return set().union(*(folders_of(tar.index.rows["path"]) for tar in self._tars))

    @cached_property
    def _tars(self) -> list[Tar]:
        indexes = in_order(partial(TarIndex.of, self._folder), self._paths, threads=LISTINGS, ahead=LISTINGS)
        return [Tar(*facts) for facts in zip(self._paths, stems(self._paths), indexes, strict=True)]

    @property
    def _paths(self) -> list[str]:
        return self._chosen.paths

    @cached_property
    def _chosen(self) -> Chosen:
        chosen = files_of(self.split, self.place, _SUFFIXES)
        packed = [path for path in chosen.paths if path.endswith(_COMPRESSED)]
        if packed:
            raise InputError(
                "a compressed tar cannot be read at one place without reading all before it; the images in it are "
                "compressed anyway: unpack it to a plain tar", item=self._folder.at(packed[0]), expected="*.tar",
            )  # fmt: skip
        if not chosen.paths:
            raise InputError("there are no tars here", item=self.place.root, expected="*.tar")
        return chosen

    @cached_property
    def _folder(self) -> Storage:
        return home(self.place, _SUFFIXES)


def _repeated(rows: pa.Table) -> list[int]:
    """Rows that repeat a path. No two tars have the same name, so ids can only repeat within one."""
    hashes, start = [], 0
    for paths in rows["path"].iterchunks():
        hashes.append(hashes_of(paths.to_pylist(), start))
        start += len(paths)
    return [row for again in repeated(hashes) for row in again.tolist()]


def _end(source: dict[str, Any], row: int) -> int:
    return int(source["starts"][row] + max(source["sizes"][row], 0))


def _chunks(source: dict[str, Any]) -> Iterator[Chunk]:
    """Images that follow each other, as many as fit into one request; a larger image is alone in one."""
    chunk: Chunk = []
    for row in range(len(source["starts"])):
        if chunk and _end(source, row) - source["starts"][chunk[0]] > _CHUNK:
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk
