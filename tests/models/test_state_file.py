import argparse
import enum
import io
import os
import pathlib
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from stl_ray.errors import ArtifactError
from stl_ray.models.state_file import read_state

TENSORS = {"weight": torch.arange(3.0), "bias": torch.zeros(1)}


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


class Mode(enum.Enum):
    BEST = 1


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "data",
    [
        saved(TENSORS),
        saved(TENSORS, _use_new_zipfile_serialization=False),
        save(TENSORS),
        *(
            saved({**TENSORS, "beside": record})
            for record in (
                np.float64(0.5), np.arange(3), argparse.Namespace(lr=1, out=pathlib.PurePosixPath("a")), Mode.BEST,
                {1, 2}, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1).state_dict(), [None, "text", (1,)],
            )
        ),
    ],
)  # fmt: skip
def test_roundtrip_tensors_whatever_lies_beside_them(data):
    loaded = read_state(data, "weights")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [open, exec, os.system])
def test_certificate_no_code_of_a_file_is_run(tmp_path, zipped, function):
    made = tmp_path / "made"
    arguments = {open: (str(made), "w"), exec: (f"open({str(made)!r}, 'w')",), os.system: (f"touch {made}",)}[function]
    payload = Payload(function, *arguments)
    for content in ({"a": payload}, payload):
        data = saved(content, _use_new_zipfile_serialization=zipped)
        try:
            read_state(data, "weights")
        except ArtifactError as error:
            assert "weights_only" not in str(error) and "trust" not in str(error)
    assert not made.exists()


def test_invariant_a_damaged_file_is_read_or_refused_in_our_words():
    random, whole = np.random.default_rng(0), saved({"state_dict": TENSORS, "epoch": np.float64(3)})
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(len(data), size=random.choice([1, 3, 20])):
            data[place] = random.integers(256)
        try:
            read_state(bytes(data[: len(data) if random.random() < 0.7 else random.integers(len(data))]), "weights")
        except ArtifactError as error:
            assert "weights_only" not in str(error)


def test_refuses_what_is_no_file_of_weights_by_what_it_is():
    script = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), script)
    whole = saved(TENSORS)
    for data, expected in {
        b"": "it is empty",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "git lfs pull",
        b"\n<!DOCTYPE html><html>": "a web page",
        b"PK garbage": "its pickle is damaged",
        b"0123456 {garbage": "not a safetensors file",
        whole[: len(whole) // 2]: "its pickle is damaged",
        script.getvalue(): "a TorchScript program",
        saved(nn.Linear(1, 1)): "a pickled object.*state_dict.*Linear",
    }.items():
        with pytest.raises(ArtifactError, match=expected) as error:
            read_state(data, "w.pth")
        assert "weights_only" not in str(error.value) and "\x1b" not in str(error.value)
