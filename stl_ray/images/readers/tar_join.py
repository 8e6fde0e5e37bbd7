"""The images of one tar joined by key with the files that label them, in whatever order they lie.

A key is WebDataset's: the path of a member up to the first dot of its name. All is done on Arrow's columns, whose values
never become Python objects: a tar may hold millions of members.
"""

import posixpath
from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from stl_ray.images.readers.label_files import NOT_A_LABEL, Kind
from stl_ray.images.readers.tar_file import TarIndex

_FROM_THE_FIRST_DOT = r"\.[^/]*$"


def key_of(path: str) -> str:
    """The key of a member."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, name.partition(".")[0])


class TarJoin:
    """Joins a tar's images with its label files of some kinds.

    Args:
        index: of the tar.
        kinds: of label files; where several files label a key, one of the first of these kinds counts.
        listed: the names of all classes, by which names become numbers; None: there is no list, names stay names. Those
            of TXT are labels only if they are listed.
    """

    def __init__(self, index: TarIndex, kinds: Sequence[Kind], listed: Sequence[str] | None = None) -> None:
        self._every = index.files
        self._kinds = kinds
        self._files = self._of(*kinds)
        self.images = index.rows["path"]
        self._keys = _keys_of(self.images)
        self._paths, self._file_keys = self._files["path"], _keys_of(self._files["path"])
        self._number, self._name = self._files["number"], self._files["name"]
        if listed is not None or Kind.TXT in kinds:
            number = pc.index_in(self._name, value_set=pa.array(listed or [], pa.string())).cast(pa.int64())
            has_to_be_listed = pc.and_(pc.is_valid(self._name), pc.not_equal(self._files["kind"], Kind.TXT))
            unlisted = pc.if_else(has_to_be_listed, NOT_A_LABEL, None)
            self._number = pc.coalesce(self._number, number, unlisted)
            self._name = pa.chunked_array([pa.nulls(len(self._name), pa.string())])

    @cached_property
    def number(self) -> pa.ChunkedArray:
        """The integer that labels each image: null without one, NOT_A_LABEL where its label file holds no label."""
        number = self._number.take(self._file)
        silent = pc.and_(pc.is_valid(self._file), pc.is_null(self.name))
        return pc.coalesce(number, pc.if_else(silent, NOT_A_LABEL, None))

    @cached_property
    def name(self) -> pa.ChunkedArray:
        """The name of a class that labels each image: null without one."""
        return self._name.take(self._file)

    @property
    def several(self) -> pa.ChunkedArray:
        """Whether each image's key has several images."""
        return pc.is_in(self._keys, value_set=_repeated(self._keys))

    @property
    def doubled(self) -> pa.ChunkedArray:
        """Images of a path, and label files of a key and kind, that come more than once."""
        keys = pc.binary_join_element_wise(self._files["kind"], self._file_keys, ":")
        files = self._paths.filter(pc.is_in(keys, value_set=_repeated(keys)))
        return pa.chunked_array([_repeated(self.images), files.unique()], pa.string())

    @property
    def differing(self) -> pa.ChunkedArray:
        """Label files that say another label than one of another kind of the same key."""
        first = pc.index_in(self._file_keys, value_set=self._file_keys)
        number = pc.if_else(pc.equal(self._number, NOT_A_LABEL), None, self._number)
        differs = [pc.not_equal(column, column.take(first)) for column in (number, self._name)]
        return self._paths.filter(pc.or_(*(pc.fill_null(each, False) for each in differs)))

    @property
    def bad(self) -> pa.ChunkedArray:
        """Label files that hold no label."""
        return self._paths.filter(pc.equal(self._number, NOT_A_LABEL))

    @property
    def orphans(self) -> pa.ChunkedArray:
        """Label files whose keys have no image."""
        known = pc.or_(pc.is_valid(self._number), pc.is_valid(self._name))
        return self._paths.filter(pc.and_(known, self._without_image(self._file_keys)))

    @property
    def parts(self) -> pa.ChunkedArray:
        """Files of kind PART whose keys have no other label file."""
        paths = self._of(Kind.PART)["path"]
        return paths.filter(pc.invert(pc.is_in(_keys_of(paths), value_set=self._file_keys)))

    def beside(self, *, in_folders: bool) -> pa.ChunkedArray:
        """Files, of all kinds, that lie beside an image; without `in_folders` beside one that lies in no folder."""
        keys = self._keys if in_folders else self._keys.filter(pc.invert(pc.match_substring(self.images, "/")))
        return self._every["path"].filter(pc.is_in(_keys_of(self._every["path"]), value_set=keys))

    @property
    def texts(self) -> pa.Table:
        """The files that lie beside an image, as in `TarIndex.files`."""
        return self._files.filter(pc.invert(self._without_image(self._file_keys)))

    @property
    def unused(self) -> pa.ChunkedArray:
        """Files that may be labels by their kind, but label no image."""
        files = self._of(Kind.JSON, Kind.TXT)
        used = pc.is_in(files["kind"], value_set=pa.array(self._kinds, pa.string()))
        return files["path"].filter(pc.or_(pc.invert(used), self._without_image(_keys_of(files["path"]))))

    @cached_property
    def _file(self) -> pa.ChunkedArray:
        """The place of the file that labels each image; null without one."""
        return pc.index_in(self._keys, value_set=self._file_keys)

    def _of(self, *kinds: Kind) -> pa.Table:
        """The files of some kinds, those of the first before the others."""
        tables = [self._every.filter(pc.equal(self._every["kind"], kind)) for kind in kinds]
        return pa.concat_tables([self._every.slice(0, 0), *tables])

    def _without_image(self, keys: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.invert(pc.is_in(keys, value_set=self._keys))


def _keys_of(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(paths, pattern=_FROM_THE_FIRST_DOT, replacement="")


def _repeated(values: pa.ChunkedArray) -> pa.Array:
    """The values that come more than once."""
    counts = pc.value_counts(values)
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))
