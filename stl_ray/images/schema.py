"""The image record: the Arrow schema of every image dataset that is read or written.

The schema carries Hugging Face `Image` and `ClassLabel` metadata under the key `huggingface`, so that
`datasets.load_dataset("parquet", ...)` needs no configuration; every other Parquet reader ignores it.
Source: the `features` entry of Hugging Face datasets' `DatasetInfo`. The key `stl_ray` says what made the images.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

ImageKind = Literal["image", "purified", "adversarial"]

PIXEL_DIGEST = "pixel_digest"

_IMAGE = [
    pa.field("id", pa.string()),  # unique and stable, from the source
    pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
    pa.field("label", pa.int64()),  # index of a class; -1: unknown
]
_EXTRA: dict[ImageKind, list[pa.Field]] = {
    "image": [pa.field(PIXEL_DIGEST, pa.binary())],  # `codec.pixel_digest`, by which images that come twice are found
    "purified": [
        pa.field("cluster", pa.int16()),  # the cluster whose dictionary projected it; -1: none
        pa.field("iterations", pa.int16()),
        pa.field("status", pa.string()),
        pa.field("sparsity", pa.float32()),  # share of non-zero coefficients
        pa.field("psnr", pa.float32()),  # dB, against the input image
    ],
    "adversarial": [  # all measured on the image as stored against the stored clean one
        pa.field("pixels", pa.binary()),  # float32 (H, W, 3), little-endian, of an image stored exactly; else null
        pa.field("attack", pa.string()),
        pa.field("success", pa.bool_()),  # right on the clean image and wrong on this one
        pa.field("status", pa.string()),
        pa.field("dissimilarity", pa.float32()),  # ||x' - x|| / ||x||
        pa.field("dissimilarity_standardized", pa.float32()),  # the same after ImageNet's mean and std
        pa.field("l2", pa.float32()),  # ||x' - x|| in [0, 1] pixel units
        pa.field("linf", pa.float32()),  # in [0, 1] pixel units
        pa.field("queries", pa.int32()),
        pa.field("source_pred", pa.int64()),  # the attacked classifier's prediction for this image
    ],
}


def image_schema(
    kind: ImageKind, class_names: Sequence[str] | None, made_by: Mapping[str, Any] | None = None
) -> pa.Schema:
    """The schema of one kind of image dataset.

    Args:
        kind: `image` (clean), `purified` or `adversarial`.
        class_names: name of every label; None: labels are plain integers.
        made_by: JSON-able record of what made the images, for readers who have only the file.
    """
    fields = _IMAGE + _EXTRA[kind]
    features = {field.name: _feature(field, class_names) for field in fields}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    if made_by is not None:
        metadata["stl_ray"] = json.dumps(made_by, sort_keys=True)
    return pa.schema(fields, metadata=metadata)


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """The Hugging Face features of a schema by column, {} where it carries none that can be read."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def class_names_of(schema: pa.Schema, column: str = "label") -> list[str] | None:
    """The class names that a schema's metadata gives to a label column, None where it gives none."""
    feature = features_of(schema).get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _feature(field: pa.Field, class_names: Sequence[str] | None) -> dict[str, Any]:
    if field.name == "image":
        return {"_type": "Image"}
    if field.name == "label" and class_names is not None:
        return {"names": list(class_names), "_type": "ClassLabel"}
    return {"dtype": {"float": "float32"}.get(str(field.type), str(field.type)), "_type": "Value"}
