import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.images import class_names_of, image_schema

NAMES = ["cat", "dog"]
COLUMNS = {
    "image": ["pixel_digest"],
    "purified": ["cluster", "iterations", "status", "sparsity", "psnr"],
    "adversarial": [
        "pixels",
        "attack",
        "success",
        "status",
        "dissimilarity",
        "dissimilarity_standardized",
        "l2",
        "linf",
        "queries",
        "source_pred",
    ],
}


@pytest.mark.parametrize(("kind", "extra"), COLUMNS.items())
def test_roundtrip_through_parquet_keeps_types_and_metadata(kind, extra):
    schema = image_schema(kind, NAMES)
    assert schema.names == ["id", "image", "label", *extra]
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    read = pq.read_schema(buffer)
    assert read.equals(schema, check_metadata=True)
    assert class_names_of(read) == NAMES
    features = json.loads(read.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["image"] == {"_type": "Image"}
    assert features["id"] == {"dtype": "string", "_type": "Value"}
    # Hugging Face spells these types; pyarrow prints float32 as `float`.
    spelled = {"binary", "string", "int16", "int32", "int64", "float32", "bool"}
    assert {feature["dtype"] for feature in features.values() if feature["_type"] == "Value"} <= spelled


def test_roundtrip_what_made_the_images_is_in_the_file():
    made_by = {"defense": {"defense": "jpeg", "quality": 75}}
    schema = image_schema("purified", NAMES, made_by)
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    read = pq.read_schema(buffer)
    assert json.loads(read.metadata[b"stl_ray"]) == made_by
    assert class_names_of(read) == NAMES
    assert b"stl_ray" not in image_schema("purified", NAMES).metadata


def test_identity_without_class_names_labels_are_integers():
    schema = image_schema("image", None)
    assert class_names_of(schema) is None
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["dtype"] == "int64"


@pytest.mark.parametrize("metadata", [b"", b"no json", b"[]", b'{"info": {"features": []}}', b'{"info": null}'])
def test_identity_unreadable_metadata_names_no_classes(metadata):
    assert class_names_of(pa.schema([("label", pa.int64())], metadata={"huggingface": metadata})) is None
