import pytest
import torch

from stl_ray.training.data.batches import epoch_batches, rank_part


def batches(images: int, batch_size: int, *, epoch: int = 0, seed: int = 0) -> list[torch.Tensor]:
    return epoch_batches(images, batch_size, epoch=epoch, seed=seed, item="test")


@pytest.mark.parametrize(("images", "batch_size"), [(1, 1), (1, 64), (63, 64), (64, 64), (65, 64), (1000, 64), (7, 1)])
def test_invariant_every_image_once_in_equal_batches(images, batch_size):
    dealt = batches(images, batch_size)
    sizes = [len(batch) for batch in dealt]
    assert sorted(torch.cat(dealt).tolist()) == list(range(images))
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert len(dealt) == -(-images // batch_size)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_invariant_ranks_share_a_batch_without_doubles(world_size):
    for batch in batches(100, 16):
        parts = [rank_part(batch, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert sorted(torch.cat(parts).tolist()) == sorted(batch.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_invariant_the_order_is_of_seed_and_epoch():
    def order(**key: int) -> list[int]:
        return torch.cat(batches(50, 8, **key)).tolist()

    assert order(epoch=1) == order(epoch=1)
    assert len({tuple(order(epoch=e, seed=s)) for e in range(3) for s in range(3)}) == 9
    assert order() != list(range(50))
