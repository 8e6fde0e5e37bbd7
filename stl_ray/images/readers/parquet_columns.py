"""Which columns of a Parquet file are its images, labels and ids, whatever tool wrote it.

What Hugging Face metadata marks comes before what is named so, in any case, and for images at last the only column of
bytes; a name counts only where the type fits. Bytes and texts may have any of Arrow's layouts: large, view, fixed,
dictionary-encoded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from stl_ray.errors import InputError
from stl_ray.images.schema import features_of

Fits = Callable[[pa.DataType], bool]


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a file.

    Attributes:
        image: of the images.
        label: of the labels.
        id: of the ids, None where there are none.
        has_names: whether the labels are names of classes instead of their places.
    """

    image: str
    label: str
    id: str | None
    has_names: bool = False


def columns_of(schema: pa.Schema, item: str) -> Columns:
    """The columns that are read.

    Args:
        schema: of a file.
        item: the file, for errors.

    Raises:
        InputError: no column of images or of labels, several that may be it, or one of a type that cannot be read.
    """
    ids = _named(schema, ("id",))
    role = _LABEL if _LABEL.is_in(schema) or not _NAMED_LABEL.is_in(schema) else _NAMED_LABEL
    label, name = role.find(schema, item), ids[0] if ids else None
    columns = Columns(_IMAGE.find(schema, item), label, name, has_names=role is _NAMED_LABEL)
    for column in (columns.image, columns.label, columns.id):
        if schema.names.count(column) > 1:
            raise InputError(f"several columns are called {column!r}", item=item, expected="one", got=schema.names)
    if columns.id and not _holds_text(schema.field(columns.id).type):
        raise _unreadable(schema, ids, item, "text, bytes or integers")
    return columns


def text_of(value: object) -> str | None:
    """An id or a path as text: bytes are UTF-8, or else written in hexadecimal digits."""
    if value is None:
        return None
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


@dataclass(frozen=True)
class _Role:
    """What a column is for.

    Attributes:
        feature: Hugging Face's name of its type.
        first: names that decide between several columns.
        names: further names.
        fits: whether a type can be read.
        types: these types in words.
        by_type: whether the only column of such a type is it, whatever its name.
    """

    feature: str
    first: tuple[str, ...]
    names: tuple[str, ...]
    fits: Fits
    types: str
    by_type: bool = False

    def is_in(self, schema: pa.Schema) -> bool:
        """Whether a column that is marked, or where none is, one of these names, has such a type."""
        marked = self._marked(schema)
        candidates = marked or _named(schema, (*self.first, *self.names))
        return any(field.name in candidates and self.fits(field.type) for field in schema)

    def find(self, schema: pa.Schema, item: str) -> str:
        """The column.

        Raises:
            InputError: none, several, or one of a type that cannot be read.
        """
        fitting = [field.name for field in schema if self.fits(field.type)]
        marked, named = self._marked(schema), _named(schema, (*self.first, *self.names))
        others = [name for name in fitting if self.by_type and name.lower() != "id"]
        for group in [marked] if marked else [named, others]:
            found = [name for name in group if name in fitting]
            chosen = found if len(found) == 1 else [name for name in _named(schema, self.first) if name in found]
            if chosen:
                return chosen[0]
            if found:
                expected = f"one, or one of them called `{self.first[0]}`"
                raise InputError(f"several columns may be the {self.first[0]}", item=item, expected=expected, got=found)
        if marked or named:
            raise _unreadable(schema, marked or named, item, self.types)
        expected = (
            f"a column `{self.first[0]}`, or one that Hugging Face metadata marks as {self.feature}, of {self.types}"
        )
        got = ", ".join(f"{field.name}: {field.type}" for field in schema) or "no columns"
        raise InputError(f"no {self.first[0]} column", item=item, expected=expected, got=got)

    def _marked(self, schema: pa.Schema) -> list[str]:
        return [
            column
            for column, value in features_of(schema).items()
            if isinstance(value, dict) and value.get("_type") == self.feature and column in schema.names
        ]


def _named(schema: pa.Schema, names: tuple[str, ...]) -> list[str]:
    """The columns of these names in the order of the names, those in lower case before others."""
    columns = sorted(schema.names, key=lambda column: not column.islower())
    return [column for name in names for column in columns if column.lower() == name]


def _unreadable(schema: pa.Schema, columns: list[str], item: str, expected: str) -> InputError:
    kind = schema.types[schema.names.index(columns[0])]
    return InputError(f"column {columns[0]!r} cannot be read", item=item, expected=expected, got=kind)


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_bytes(kind)
    path = kind.field("path").type if kind.get_field_index("path") >= 0 else pa.null()
    return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type) and _holds_text(path)


def _holds_text(kind: pa.DataType) -> bool:
    text = _decoded(kind)
    texts = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_integer,
        pa.types.is_null,
    )
    return _is_bytes(text) or any(is_text(text) for is_text in texts) or str(text) == "extension<arrow.uuid>"


def _is_bytes(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_kind(_decoded(kind)) for is_kind in kinds)


def _holds_names(kind: pa.DataType) -> bool:
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_text(_decoded(kind)) for is_text in texts)


def _holds_labels(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(_decoded(kind)))


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


_IMAGE = _Role(
    feature="Image",
    first=("image",),
    names=("img", "images"),
    fits=_holds_images,
    types="struct<bytes: binary, path: string> or binary, each an encoded file",
    by_type=True,
)
_LABEL = _Role(
    feature="ClassLabel",
    first=("label", "fine_label"),  # CIFAR-100 has two that are marked; its classes are the fine ones
    names=("labels", "target", "targets", "class", "class_id"),
    fits=_holds_labels,
    types="integers, places in the list of classes from 0, or text, their names",
)
_NAMED_LABEL = replace(_LABEL, fits=_holds_names)
