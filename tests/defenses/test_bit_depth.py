import numpy as np
import pytest
import torch

from stl_ray.defenses import make_defense
from stl_ray.images import from_uint8

LEVELS = torch.arange(256, dtype=torch.uint8)
EVERY_LEVEL = from_uint8(LEVELS.reshape(1, 1, 16, 16).expand(1, 3, 16, 16))


def reduced(**options):
    defense = make_defense("bit_depth", options, {})
    return defense.purify(EVERY_LEVEL, seeds=[0]).images[0, 0].flatten()


@pytest.mark.parametrize("bits", range(1, 9))
def test_agrees_with_each_formula_in_numpy(bits):
    x = np.arange(256) / 255
    formulas = {
        "guo": np.round(x * 2**bits) / 2**bits,
        "xu": np.rint(x * (2**bits - 1)) / (2**bits - 1),
        "athalye": ((np.arange(256) >> (8 - bits)) << (8 - bits)) / 255,
    }
    for formula, expected in formulas.items():
        found = reduced(bits=bits, formula=formula)
        torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=0, atol=0)


def test_identity_the_number_of_levels_at_three_bits():
    count = {formula: len(reduced(formula=formula).unique()) for formula in ("guo", "xu", "athalye")}
    assert count == {"guo": 9, "xu": 8, "athalye": 8}
    assert torch.equal(reduced(), reduced(bits=3, formula="guo"))
    assert [float(reduced(formula=formula).max()) for formula in count] == [1, 1, pytest.approx(224 / 255)]
