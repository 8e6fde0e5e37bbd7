"""Where the labels of a split of tars come from: the files beside the images, or else folders and the tars' names.

1. If there are `KEY.cls`, or `KEY.json` with a field `label`, these are the labels.
2. Else, if every `KEY.txt` beside an image is an integer or a name that classes.txt lists, these are. Other texts are
   captions; texts that look like labels, but are not all of them, are refused.
3. Else a class is the last folder of an image's path, or the name of the tar. Where files lie beside images, though, the
   name of a tar is no class, since WebDataset numbers its tars, nor is a folder that all images lie in.

Classes are the lines of classes.txt; without it the numbers up to the largest label, or the sorted names. What is not
certain is refused with the names of the first members that it is about.
"""

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from stl_ray.errors import InputError
from stl_ray.images.readers.base import MOST_CLASSES, UNKNOWN_LABEL
from stl_ray.images.readers.examples import Examples
from stl_ray.images.readers.label_files import NOT_A_LABEL, Kind
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.tar_file import TarIndex
from stl_ray.images.readers.tar_join import TarJoin

CLASSES = "classes.txt"

_SHOWN = 3
_LONGEST_LABEL = 64  # characters of a line that may be a label and no caption
_FILES = (
    "KEY.cls with a class (integer or name), KEY.json with a field label, or KEY.txt with an integer or a name that "
    f"{CLASSES} beside the tars lists"
)


@dataclass(frozen=True)
class Tar:
    """A tar of a split.

    Attributes:
        file: its path.
        stem: its name, with which ids begin.
        index: its members.
    """

    file: str
    stem: str
    index: TarIndex


@dataclass(frozen=True)
class TarLabels:
    """The labels beside the images of a split.

    Attributes:
        class_names: name of every label.
        kinds: of the files that are labels.
        listed: the lines of classes.txt, None without it.
    """

    class_names: list[str]
    kinds: tuple[Kind, ...]
    listed: list[str] | None

    def of(self, index: TarIndex) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """The label of each image of a tar, UNKNOWN_LABEL without one; and whether its key has several images."""
        join = TarJoin(index, self.kinds, self.listed)
        named = pc.index_in(join.name, value_set=pa.array(self.class_names, pa.string())).cast(pa.int64())
        return pc.coalesce(named, join.number, UNKNOWN_LABEL), join.several


def find_labels(tars: Sequence[Tar], listed: Callable[[], list[str] | None], item: str) -> TarLabels | None:
    """The labels beside the images; None where classes are those of folders, or of tars.

    Args:
        tars: of the split.
        listed: gives the lines of classes.txt, None without it; called only where there may be labels.
        item: the source, for errors.

    Raises:
        InputError: label files without an image, that differ for one key, or that are no labels; an image that comes
            twice; integers beside names; no sensible largest label; or images that nothing labels, though files lie
            beside them as beside the images of a label.
    """
    labels: Counter[Kind] = sum((tar.index.labels for tar in tars), Counter())
    if not any(tar.index.images for tar in tars):
        return None
    if labels[Kind.CLS] or labels[Kind.JSON] or labels[Kind.PART]:
        return _labels(tars, (Kind.CLS, Kind.JSON), listed(), item)
    if labels[Kind.TXT]:
        names = listed()
        if _are_labels(tars, names, item):
            return _labels(tars, (Kind.TXT,), names, item)
    others = [tar for tar in tars if len(tar.index.files)]
    in_folders = bool(others) and len(set().union(*map(classes_in, tars))) == 1
    beside = Examples()
    for tar in others:
        beside.add(tar.file, TarJoin(tar.index, ()).beside(in_folders=in_folders))
    beside.refuse(
        "files lie beside images, as in WebDataset, but none is a label, and no folders name the classes",
        item=item,
        expected=f"{_FILES}; or each class's images in a folder of its name; or tars of images alone, named after classes",
    )
    return None


def class_of(stem: str, path: str) -> str:
    """The class of an image without labels: its last folder, or the name of its tar."""
    return posixpath.basename(posixpath.dirname(path)) or posixpath.basename(stem)


def classes_in(tar: Tar) -> set[str]:
    """The classes of a tar without labels."""
    return {class_of(tar.stem, path) for some in tar.index.rows["path"].iterchunks() for path in some.to_pylist()}


def unused(index: TarIndex, kinds: Sequence[Kind]) -> LeftOut:
    """Counts of the files of a tar that may be labels by their names, but are none."""
    left_out = LeftOut()
    if len(index.files):
        for chunk in TarJoin(index, kinds).unused.iterchunks():
            left_out.add_names(chunk.to_pylist())
    return left_out


def _labels(tars: Sequence[Tar], kinds: tuple[Kind, ...], listed: list[str] | None, item: str) -> TarLabels:
    """The labels that files of some kinds hold."""
    survey = _Survey()
    for tar in tars:
        survey.add(tar.file, TarJoin(tar.index, kinds, listed))
    survey.refuse(item)
    return TarLabels(survey.class_names(item) if listed is None else listed, kinds, listed)


class _Survey:
    """What the label files of all tars say together."""

    def __init__(self) -> None:
        self._doubled, self._differing, self._orphans, self._parts = (Examples() for _ in range(4))
        self._numbered, self._named, self._bad = (Examples() for _ in range(3))
        self._largest, self._names = -1, pa.array([], pa.string())

    def add(self, tar: str, join: TarJoin) -> None:
        """Take what one tar says."""
        self._doubled.add(tar, join.doubled)
        self._differing.add(tar, join.differing)
        self._orphans.add(tar, join.orphans)
        self._parts.add(tar, join.parts)
        self._bad.add(tar, join.bad)
        numbered = pc.fill_null(pc.not_equal(join.number, NOT_A_LABEL), False)
        self._numbered.add(tar, join.images.filter(numbered), join.number.filter(numbered))
        self._named.add(tar, join.images.filter(pc.is_valid(join.name)), join.name.drop_null())
        largest = pc.max(join.number).as_py()
        self._largest = self._largest if largest is None else max(self._largest, largest)
        self._names = pa.concat_arrays([self._names, join.name.unique().drop_null()]).unique()

    def refuse(self, item: str) -> None:
        """Refuse what is not certain.

        Raises:
            InputError: with examples.
        """
        once = "every path once in a tar, and one label file of a kind for each key"
        self._doubled.refuse("members come twice", item=item, expected=once)
        self._differing.refuse("label files of one key differ", item=item, expected="one label for each key")
        image = "an image of the same key (the path up to the first dot of the name) in the same tar"
        self._orphans.refuse("label files without an image", item=item, expected=image)
        self._parts.refuse(
            "label files with a part between key and kind", item=item, expected=f"{_FILES}; no other dots"
        )
        if not self._numbered.count + self._named.count:
            self._bad.refuse("label files hold no label", item=item, expected=_FILES)
        if self._numbered.count and self._named.count:
            expected = f"one of them, or {CLASSES} beside the tars"
            got = f"{self._numbered}; {self._named}"
            raise InputError("labels are integers as well as names", item=item, expected=expected, got=got)

    def class_names(self, item: str) -> list[str]:
        """The sorted names, or else the numbers up to the largest.

        Raises:
            InputError: there are none, or too many.
        """
        classes = len(self._names) or self._largest + 1
        if not 0 < classes <= MOST_CLASSES:
            expected = f"{CLASSES} beside the tars, or labels from 0 to at most {MOST_CLASSES - 1}"
            raise InputError("no classes", item=item, expected=expected, got=f"{classes - 1} as the largest")
        return sorted(self._names.to_pylist()) or [str(label) for label in range(classes)]


def _are_labels(tars: Sequence[Tar], listed: list[str] | None, item: str) -> bool:
    """Whether all texts beside images are labels.

    Raises:
        InputError: not all are, but half of them or more look like it: integers or single words, or short lines of which
            each comes twice on average.
    """
    others = Examples()
    texts = words = lines = different = 0
    for tar in tars:
        table = TarJoin(tar.index, (Kind.TXT,)).texts
        labels = pc.or_(
            pc.is_valid(table["number"]), pc.is_in(table["name"], value_set=pa.array(listed or [], pa.string()))
        )
        others.add(tar.file, table["path"].filter(pc.invert(labels)))
        said = pc.coalesce(table["number"].cast(pa.string()), table["name"])
        short = said.filter(pc.less_equal(pc.utf8_length(said), _LONGEST_LABEL))
        texts += len(table)
        words += pc.sum(pc.invert(pc.match_substring(short, " "))).as_py() or 0
        lines += len(short)
        different += len(short.unique())
    if others.count and (2 * words >= texts or (2 * lines >= texts and 2 * different <= lines)):
        expected = f"in every one an integer or a name that {CLASSES} beside the tars lists"
        others.refuse("texts beside images look like labels, but not all are", item=item, expected=expected)
    return texts > 0 and not others.count
