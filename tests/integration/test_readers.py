"""Readers that were not written here open purified shards with no configuration: Hugging Face datasets and DuckDB."""

import io
import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stl_ray.images import class_names_of
from stl_ray.pipeline.batches import pixels_of
from stl_ray.store import Dataset

pytestmark = pytest.mark.ray

CLEAN, PURIFIED = "ingest/test", "project/stl_cluster-test"


def _parts(tiny, run) -> str:
    return str(tiny / run / "parts" / "*.parquet")


@pytest.fixture(scope="module")
def purified(tiny) -> pa.Table:
    """The shards as this package reads them."""
    return pa.concat_tables(Dataset.open(str(tiny / PURIFIED)).tables())


def _psnr(image: np.ndarray, reference: np.ndarray) -> float:
    error = (image.astype(np.float64) - reference.astype(np.float64)) / 255
    return float(10 * np.log10(1 / np.mean(error**2)))


def test_agrees_with_hugging_face_datasets(tiny, purified, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    import datasets  # reads the environment

    def load(run):
        return datasets.load_dataset("parquet", data_files=_parts(tiny, run), split="train", cache_dir=str(tmp_path))

    seen = load(PURIFIED)
    assert isinstance(seen.features["image"], datasets.Image)
    assert seen.features["label"] == datasets.ClassLabel(names=class_names_of(purified.schema))
    assert seen.features["psnr"] == datasets.Value("float32") and seen.features["cluster"] == datasets.Value("int16")
    assert list(seen["id"]) == purified["id"].to_pylist()
    for row, clean, ours in zip(seen, load(CLEAN), pixels_of(purified), strict=True):
        assert isinstance(row["image"], Image.Image) and row["image"].mode == "RGB"
        assert np.array_equal(np.asarray(row["image"]), ours)
        # By the images alone, without our code: the purified one is as near to the clean one as its row says.
        assert row["psnr"] == pytest.approx(_psnr(np.asarray(row["image"]), np.asarray(clean["image"])), abs=1e-3)
    name = seen.features["label"].int2str(seen[0]["label"])
    assert name == class_names_of(purified.schema)[purified["label"][0].as_py()]


def test_agrees_with_duckdb(tiny, purified):
    found = duckdb.sql(f"SELECT id, label, image.bytes, status, psnr FROM '{_parts(tiny, PURIFIED)}' ORDER BY id")
    rows = found.fetchall()
    expected = purified.sort_by("id").to_pylist()
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        (row["id"], row["label"], row["status"], row["psnr"]) for row in expected
    ]
    for row, ours in zip(rows, pixels_of(purified.sort_by("id")), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row[2]))), ours)
    part = next((tiny / PURIFIED / "parts").iterdir())
    query = "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'huggingface'"
    ((metadata,),) = duckdb.execute(query, [str(part)]).fetchall()
    assert json.loads(metadata)["info"]["features"]["label"]["names"] == class_names_of(purified.schema)
