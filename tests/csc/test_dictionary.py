import copy
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, solve_cbpdn
from stl_ray.csc import operator as operator_module
from stl_ray.csc.operator import operator_of
from stl_ray.errors import DictionaryError


def unit_filters(count: int = 5, channels: int = 3, side: int = 4) -> Tensor:
    filters = torch.randn((count, channels, side, side), generator=torch.Generator().manual_seed(0))
    return filters / filters.flatten(1).norm(dim=1)[:, None, None, None]


def reference_file(path: Path) -> tuple[Path, np.ndarray]:
    array = unit_filters(6, 3, 8).permute(2, 3, 1, 0).contiguous().numpy()
    np.save(path, array)
    return path, array


def test_agrees_with_the_layout_of_a_reference_file(tmp_path: Path) -> None:
    path, array = reference_file(tmp_path / "6_p8_lm0.15.npy")
    dictionary = Dictionary.from_reference(path)
    assert dictionary.lmbda == 0.15
    assert dictionary.norm == "joint"
    assert (dictionary.channels, dictionary.side) == (3, 8)
    blue_of_fourth = array[:, :, 0, 3]
    assert np.array_equal(dictionary.filters[3, 2].numpy(), blue_of_fourth)


def test_agrees_with_an_explicit_lambda_under_any_name(tmp_path: Path) -> None:
    path, _ = reference_file(tmp_path / "mine.npy")
    assert Dictionary.from_reference(path, lmbda=0.3).lmbda == 0.3


def test_agrees_with_the_published_dictionaries(shared_data: Path) -> None:
    files = sorted((shared_data / "reference" / "dictionaries").rglob("*.npy"))
    assert len(files) == 8
    for path in files:
        dictionary = Dictionary.from_reference(path)
        assert dictionary.filters.shape == (64, 3, 8, 8)
        assert f"lm{dictionary.lmbda:g}" in path.name


@pytest.mark.parametrize("name", ["missing_p8_lm0.2.npy", "6_p8_lm.npy", "objects", "flat", "text", "integers"])
def test_refuses_files_that_are_not_dictionaries(tmp_path: Path, name: str) -> None:
    path = tmp_path / "6_p8_lm0.2.npy"
    match name:
        case "objects":
            np.save(path, np.array([{"a": 1}]), allow_pickle=True)
        case "flat":
            np.save(path, np.ones(7))
        case "integers":
            np.save(path, np.ones((8, 8, 3, 6), dtype=np.int64))
        case "text":
            path.write_text("not an array")
        case "6_p8_lm.npy":
            path, _ = reference_file(tmp_path / name)
        case _:
            path = tmp_path / name
    with pytest.raises(DictionaryError) as error:
        Dictionary.from_reference(path)
    assert error.value.item == path


@pytest.mark.parametrize(
    ("filters", "lmbda", "norm"),
    [
        (unit_filters() * 1.001, 0.2, "joint"),
        (unit_filters(), 0.2, "per_channel"),
        (unit_filters() * math.nan, 0.2, "joint"),
        (unit_filters().double(), 0.2, "joint"),
        (unit_filters()[0], 0.2, "joint"),
        (unit_filters()[:, :, :3], 0.2, "joint"),
        (unit_filters()[:0], 0.2, "joint"),
        (unit_filters(), 0.0, "joint"),
        (unit_filters(), math.inf, "joint"),
        (unit_filters(), math.nan, "joint"),
        (unit_filters(), 0.2, "l1"),
    ],
)
def test_refuses_what_breaks_the_convention(filters: Tensor, lmbda: float, norm: str) -> None:
    with pytest.raises(DictionaryError):
        Dictionary(filters, lmbda, norm)


def test_invariant_digest_follows_the_content() -> None:
    filters = unit_filters()
    first, same = Dictionary(filters, 0.2), Dictionary(filters.clone(), 0.2)
    assert first == same
    assert hash(first) == hash(same)
    assert first.to("cpu").digest == first.digest
    per_channel = filters / filters.flatten(2).norm(dim=2)[:, :, None, None]
    others = [Dictionary(filters.flip(0), 0.2), Dictionary(filters, 0.1), Dictionary(per_channel, 0.2, "per_channel")]
    assert len({first.digest, *(other.digest for other in others)}) == 4


def test_invariant_a_dictionary_owns_its_filters_whatever_becomes_of_the_array(natural_images: Tensor) -> None:
    filters = unit_filters()
    dictionary, same = Dictionary(filters, 0.1), Dictionary(filters.clone(), 0.1)
    filters.copy_(-filters.flip(0))
    for method in ("active_set", "admm"):
        solved, expected = (
            solve_cbpdn(natural_images[:2], d, 0.1, method=method).synthesis for d in (dictionary, same)
        )
        assert torch.equal(solved, expected)


@pytest.mark.parametrize("method", ["active_set", "admm"])
def test_refuses_to_solve_with_filters_that_were_changed_in_place(natural_images: Tensor, method: str) -> None:
    dictionary = Dictionary(unit_filters(), 0.1)
    solve_cbpdn(natural_images[:1], dictionary, 0.1, method=method)
    dictionary.filters.neg_()
    with pytest.raises(DictionaryError, match="changed in place"):
        solve_cbpdn(natural_images[:1], dictionary, 0.1, method=method)
    assert solve_cbpdn(natural_images[:1], replace(dictionary), 0.1, method=method).maps.any()


def test_invariant_a_changed_dictionary_does_not_disturb_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    changed, other = Dictionary(unit_filters(), 0.1), Dictionary(unit_filters().flip(0), 0.1)
    digest = changed.digest
    operator_of(changed, 16, 16, torch.float32, torch.device("cpu"))
    changed.filters.neg_()
    monkeypatch.setattr(operator_module, "KEPT_BYTES", 1)  # room for none: the changed one's has to leave
    operator_of(other, 16, 16, torch.float32, torch.device("cpu"))
    assert {changed, other} == {changed, Dictionary(unit_filters().flip(0), 0.1)}
    with pytest.raises(DictionaryError, match="changed in place"):
        operator_of(changed, 16, 16, torch.float32, torch.device("cpu"))
    assert Dictionary(unit_filters(), 0.1).digest == digest


def test_roundtrip_copies_pickles_and_inference_mode() -> None:
    dictionary = Dictionary(unit_filters(), 0.1)
    with torch.inference_mode():
        inferred = Dictionary(unit_filters(), 0.1)
    for other in (copy.deepcopy(dictionary), pickle.loads(pickle.dumps(dictionary)), dictionary.to("cpu"), inferred):
        assert other == dictionary
