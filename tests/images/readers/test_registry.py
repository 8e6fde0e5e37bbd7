import pickle
from typing import get_args

import numpy as np

from stl_ray.config import Source
from stl_ray.images import encode_png
from stl_ray.images.readers import open_reader

FORMATS = get_args(Source.model_fields["format"].annotation)


def test_identity_every_format_of_the_config_opens(tmp_path):
    assert len(FORMATS) == 5
    for name in FORMATS:
        path = None if name == "photographs" else str(tmp_path)
        reader = open_reader(Source(format=name, path=path), split="test")
        assert callable(reader.plan) and callable(reader.read)


def test_invariant_the_limit_reaches_the_photographs():
    assert sum(shard.rows for shard in open_reader(Source(format="photographs", limit=7), split="test").plan(3)) == 7


def test_invariant_a_reader_works_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "images" / "class").mkdir(parents=True)
    (tmp_path / "images" / "class" / "0.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    monkeypatch.chdir(tmp_path)
    reader = open_reader(Source(format="folder", path="images"), split="train")
    plan = list(reader.plan(10))
    monkeypatch.chdir("/")
    elsewhere = pickle.loads(pickle.dumps(reader))
    assert [image.id for image in elsewhere.read(plan[0].source)] == ["class/0.png"]
    assert elsewhere.class_names == ["class"]
