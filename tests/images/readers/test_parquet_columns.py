import json
import uuid

import pyarrow as pa
import pytest

from stl_ray.errors import InputError
from stl_ray.images.readers.parquet_columns import Columns, columns_of, text_of

BYTES, INT = pa.binary(), pa.int64()
IMAGE = pa.struct([("bytes", BYTES), ("path", pa.string())])


def columns(marks=None, **types):
    features = {name: {"_type": mark} for name, mark in (marks or {}).items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return columns_of(pa.schema(types.items(), metadata=metadata), "a.parquet")


def test_identity_marked_columns_come_before_named_ones():
    marks = {"img": "Image", "kind": "ClassLabel"}
    assert columns(marks, image=pa.string(), img=IMAGE, label=INT, kind=INT) == Columns("img", "kind", None)
    two = {"fine_label": "ClassLabel", "coarse_label": "ClassLabel", "img": "Image"}
    assert columns(two, img=IMAGE, coarse_label=INT, fine_label=INT).label == "fine_label"
    masks = {"mask": "Image", "image": "Image"}
    assert columns(masks, mask=IMAGE, image=IMAGE, label=INT).image == "image"


def test_identity_named_columns_in_any_case_where_their_type_fits():
    assert columns(Image=BYTES, LABEL=INT, Id=pa.string()) == Columns("Image", "LABEL", "Id")
    assert columns(image=pa.string(), jpg=BYTES, labels=INT) == Columns("jpg", "labels", None)
    named = pa.dictionary(pa.int8(), pa.string())
    assert columns(image=BYTES, label=named, caption=pa.string()) == Columns("image", "label", None, has_names=True)
    class_names = {"class": pa.string(), "class_id": INT}
    assert columns(id=BYTES, jpg=BYTES, **class_names) == Columns("jpg", "class_id", "id")
    assert columns(image=BYTES, thumbnail=BYTES, labels=pa.list_(INT), label=INT) == Columns("image", "label", None)


@pytest.mark.parametrize(
    ("types", "marks", "message"),
    [
        ({"image": pa.string(), "label": INT}, {}, "'image' cannot be read; .*; got string"),
        ({"image": pa.list_(pa.uint8()), "label": INT}, {}, "'image' cannot be read; .*; got list<"),
        ({"image": pa.struct([("path", pa.string())]), "label": INT}, {}, "'image' cannot be read; .*struct<path"),
        ({"image": pa.struct([("bytes", BYTES), ("path", pa.list_(INT))]), "label": INT}, {}, "'image' cannot be read"),
        ({"img": pa.string(), "jpg": BYTES, "label": INT}, {"img": "Image"}, "'img' cannot be read; .*; got string"),
        ({"jpg": BYTES, "png": BYTES, "label": INT}, {}, r"several columns may be the image; .*\['jpg', 'png'\]"),
        ({"url": pa.string(), "label": INT}, {}, "no image column; .*; got url: string, label: int64"),
        ({"image": BYTES, "label": pa.list_(INT)}, {}, "'label' cannot be read; expected integers.*; got list<"),
        ({"image": BYTES, "label": pa.float64()}, {}, "'label' cannot be read; .*; got double"),
        ({"image": BYTES, "target": INT, "class": INT}, {}, "several columns may be the label; .*called `label`"),
        (
            {"image": BYTES, "a": INT, "b": INT},
            {"a": "ClassLabel", "b": "ClassLabel"},
            "several columns may be the label",
        ),
        ({"image": BYTES, "caption": pa.string()}, {}, "no label column; expected a column `label`.*caption: string"),
        ({"image": BYTES, "label": INT, "id": pa.list_(INT)}, {}, "'id' cannot be read; expected text.*got list<"),
        ({"image": BYTES, "label": INT, "id": pa.float64()}, {}, "'id' cannot be read; .*; got double"),
    ],
)
def test_refuses_by_file_column_and_type(types, marks, message):
    with pytest.raises(InputError, match=f"^a.parquet: .*{message}"):
        columns(marks, **types)


@pytest.mark.parametrize("name", ["image", "label", "id"])
def test_refuses_two_columns_of_one_name(name):
    fields = [("image", BYTES), ("label", INT), ("id", INT)]
    with pytest.raises(InputError, match="several columns"):
        columns_of(pa.schema([*fields, next(field for field in fields if field[0] == name)]), "a.parquet")


def test_identity_text_of_ids():
    number = uuid.uuid4()
    assert [text_of(value) for value in (None, 7, "é", b"\xc3\xa9", b"\xff1", number)] == [
        None, "7", "é", "é", "ff31", str(number),
    ]  # fmt: skip
