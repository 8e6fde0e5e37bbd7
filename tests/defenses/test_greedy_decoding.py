import pytest
import torch

from benchmarks.defenses.pixel_defend import uncached
from stl_ray.defenses.greedy_decoding import decoded
from stl_ray.defenses.pixel_cnn import PixelCnn
from stl_ray.models import seeded


def plain(means: list[float], coefficients: list[float], layers: int = 1) -> PixelCnn:
    """A network that says the same of every pixel: one narrow logistic, whose numbers are given."""
    network = PixelCnn(4, layers, 1).requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network.output.bias.copy_(torch.tensor([0.0, *means, -4, -4, -4, *coefficients]))
    return network


@pytest.mark.parametrize(("height", "width"), [(9, 11), (1, 5), (6, 1)])
@pytest.mark.parametrize("reach", [1, 16])
def test_agrees_what_is_kept_of_earlier_pixels_with_the_whole_network(height, width, reach):
    """In float64, where no two levels are as likely as each other but for rounding."""
    network = seeded(lambda: PixelCnn(8, 3, 3), 0).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(2)  # what is said of a pixel then depends much on those before
    levels = torch.randint(256, (3, 3, height, width), generator=torch.Generator().manual_seed(1)).double()
    chosen = decoded(network, levels, reach)
    assert torch.equal(chosen, uncached(network, levels, reach, height))
    assert float((chosen - levels).abs().max()) <= reach
    assert torch.equal(chosen, decoded(network, levels, reach))


def test_identity_a_prediction_that_is_known_is_met_as_far_as_the_box_allows():
    levels = torch.randint(256, (2, 3, 4, 5), generator=torch.Generator().manual_seed(2)).float()
    level = 2 / 255
    means = [100 / 127.5 - 1 + level / 4, 0.0, -0.2]
    half = torch.atanh(torch.tensor(0.5)).item()
    chosen = decoded(plain(means, [half, 0.0, -half]), levels, 16)
    box = (levels - 16).clamp(min=0), (levels + 16).clamp(max=255)

    def nearest(value: torch.Tensor, channel: int) -> torch.Tensor:
        wanted = ((value + 1) * 127.5).round()
        return wanted.clamp(box[0][:, channel], box[1][:, channel])

    red, green, blue = chosen.unbind(1)
    assert torch.equal(red, nearest(torch.full_like(red, means[0]), 0))
    assert torch.equal(green, nearest(0.5 * (red / 127.5 - 1), 1))
    assert torch.equal(blue, nearest(means[2] - 0.5 * (green / 127.5 - 1), 2))


def test_identity_a_pixel_is_judged_by_what_was_chosen_before_it():
    """Every level is said to be that of the pixel to the left: a ramp falls behind as far as the box lets it."""
    network = plain([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    for channel in range(3):
        network.left.weight[channel, channel, 0, 1] = 1
        network.output.weight[1 + channel, channel] = 1
    levels = (40 + 10.0 * torch.arange(12)).expand(1, 3, 2, 12)
    # The first pixel has a grey border to its left, which is above it. By the image's own values it would be 10 less.
    expected = torch.cat([torch.tensor([56.0, 56, 56, 56]), levels[0, 0, 0, 4:] - 16])
    assert torch.equal(decoded(network, levels, 16), expected.expand(1, 3, 2, 12))


def test_invariant_levels_stay_between_0_and_255():
    for level, mean in ((0.0, -3.0), (255.0, 3.0)):
        levels = torch.full((1, 3, 3, 3), level)
        assert torch.equal(decoded(plain([mean] * 3, [0.0] * 3), levels, 16), levels)
