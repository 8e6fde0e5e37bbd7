import json

import numpy as np
import pytest

from stl_ray.errors import ArtifactError
from stl_ray.store import load_artifact, save_artifact

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}


@pytest.fixture
def folder(tmp_path):
    save_artifact(str(tmp_path), "thing", 3, ARRAYS, {"lmbda": 0.2, "names": ["x"]})
    return tmp_path


def test_roundtrip(folder):
    artifact = load_artifact(str(folder), "thing", 3)
    assert artifact.meta == {"lmbda": 0.2, "names": ["x"]}
    assert all(np.array_equal(artifact.arrays[name], array) for name, array in ARRAYS.items())


def test_invariant_digest_covers_arrays_record_and_version(tmp_path):
    digests = {
        save_artifact(str(tmp_path), "thing", version, arrays, meta)
        for version, arrays, meta in (
            (1, ARRAYS, {"x": 1}),
            (2, ARRAYS, {"x": 1}),
            (1, ARRAYS, {"x": 2}),
            (1, {**ARRAYS, "b": ARRAYS["b"] + 1}, {"x": 1}),
        )
    }
    assert len(digests) == 4
    assert save_artifact(str(tmp_path), "thing", 1, ARRAYS, {"x": 1}) in digests


def test_invariant_non_contiguous_arrays_are_stored_as_they_read(tmp_path):
    save_artifact(str(tmp_path), "thing", 1, {"t": ARRAYS["a"].T}, {})
    assert np.array_equal(load_artifact(str(tmp_path), "thing", 1).arrays["t"], ARRAYS["a"].T)


def test_refuses_another_version(folder):
    with pytest.raises(ArtifactError, match=r"another format version; expected 4; got 3"):
        load_artifact(str(folder), "thing", 4)


def test_refuses_what_is_missing(tmp_path):
    with pytest.raises(ArtifactError, match=r"thing\.json: no readable thing artifact"):
        load_artifact(str(tmp_path), "thing", 1)


def test_refuses_altered_tensors(folder):
    data = bytearray((folder / "thing.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "thing.safetensors").write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="altered"):
        load_artifact(str(folder), "thing", 3)


def test_refuses_an_altered_record(folder):
    record = json.loads((folder / "thing.json").read_text())
    record["meta"]["lmbda"] = 0.1
    (folder / "thing.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="altered"):
        load_artifact(str(folder), "thing", 3)


def test_refuses_another_kind_of_json(tmp_path):
    (tmp_path / "thing.json").write_text("[1]")
    (tmp_path / "thing.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="another kind of file"):
        load_artifact(str(tmp_path), "thing", 1)
