import pytest
import torch

from stl_ray.tiling import in_tiles


@pytest.mark.parametrize("total", [1, 4, 5, 8, 11])
def test_invariant_every_item_is_seen_once_in_tiles_of_one_size(total):
    shapes = []

    def function(values, labels):
        shapes.append((len(values), len(labels)))
        return values.sum(dim=1), labels + 1

    values, labels = torch.arange(3.0 * total).reshape(total, 3), torch.arange(total)
    sums, after = in_tiles(function, values, labels, size=4)
    torch.testing.assert_close(sums, values.sum(dim=1))
    assert after.tolist() == list(range(1, total + 1))
    assert shapes == [(4, 4)] * -(-total // 4)


def test_invariant_network_output_has_the_same_bits_whatever_the_batch(natural_images):
    network = torch.nn.Conv2d(3, 8, 3)
    images = natural_images[:13]

    def apply(batch):
        with torch.no_grad():
            return in_tiles(lambda tile: (network(tile),), batch, size=4)[0]

    together, order = apply(images), torch.arange(13) * 5 % 13
    assert torch.equal(apply(images[order]), together[order])
    assert all(torch.equal(apply(images[index : index + 1])[0], together[index]) for index in range(13))
