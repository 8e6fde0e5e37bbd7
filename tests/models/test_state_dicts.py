import pytest
import torch
from torch import nn

from stl_ray.errors import ArtifactError
from stl_ray.models.state_dicts import find_state


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 4)))


STATE = network().state_dict()
OTHER = network().state_dict()


def under(prefix, state=STATE):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("content", "where", "beside"),
    [
        (STATE, "", []),
        (under("module."), "module.", []),
        (under("_orig_mod."), "_orig_mod.", []),
        (under("module._orig_mod."), "module.", []),
        ({name.replace("2.0", "2._orig_mod.0"): tensor for name, tensor in STATE.items()}, "", []),
        ({"state_dict": under("model."), "epoch": 3, "optimizer": {"state": {0: torch.ones(1)}}}, "state_dict/model.", []),
        ({"state_dict": {**under("net.backbone."), "loss.weight": torch.ones(2)}}, "state_dict/net.backbone.",
         ["loss.weight"]),
        ({"model_state_dict": STATE}, "model_state_dict/", []),
        ({"net": under("module."), "acc": 94.1}, "net/module.", []),
        ({"ema": STATE}, "ema/", []),
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "state_dict/", []),
        ({"model": {"state_dict": STATE}}, "model/state_dict/", []),
        ({"model": STATE, "best": dict(STATE)}, "model/", []),
        ({"generator": {"a": torch.ones(1)}, "classifier": STATE}, "classifier/", []),
        ({**under("module."), "n_averaged": torch.tensor(3)}, "module.", ["n_averaged"]),
        ({name: tensor for name, tensor in STATE.items() if "num_batches" not in name}, "", []),
        ({name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}, "", []),
    ],
)  # fmt: skip
def test_identity_the_state_dict_that_fits(content, where, beside):
    found = find_state(content, STATE, "net", "file")
    assert (found.where, found.beside) == (where, beside)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in found.tensors.items())
    network().load_state_dict(found.tensors, strict=False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model": STATE, "best": OTHER}, "several state dicts fit net; .* got model/, best/"),
        ({**under("student."), **under("head.", OTHER)}, "several state dicts fit net"),
        (under("module.", {name: STATE[name] for name in list(STATE)[2:]}), r"file \(module\.\): .* 0\.bias, 0\.weight are missing"),
        ({f"layer{name}": tensor for name, tensor in STATE.items()},
         r"0\.bias, 0\.weight, 1\.bias and 5 more are missing \(the nearest to 0\.bias there: layer0\.bias\); layer0\.bias, "
         r"layer0\.weight, layer1\.bias and 6 more are unknown"),
        ({**STATE, "extra.weight": torch.ones(1)}, r"extra\.weight is unknown"),
        ({**STATE, "0.bias": torch.ones(3)}, r"0\.bias is \(3,\), not \(2,\)"),
        ({**STATE, "0.bias": torch.ones(2, dtype=torch.int8)}, r"0\.bias is int8, no plain tensor"),
        ({**STATE, "0.bias": torch.ones(2).to(torch.float8_e4m3fn)}, r"0\.bias is float8_e4m3fn, no plain"),
        ({**STATE, "0.bias": torch.ones(2).to_sparse()}, r"0\.bias is float32, no plain tensor"),
        ({"epoch": 3}, "not a state dict; expected a tensor by name; got epoch"),
        (torch.ones(3), "not a state dict; .* got Tensor"),
        ([STATE], "not a state dict; .* got list"),
    ],
)  # fmt: skip
def test_refuses_what_fits_not_or_twice(content, expected):
    with pytest.raises(ArtifactError, match=expected):
        find_state(content, STATE, "net", "file")
