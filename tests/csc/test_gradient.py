import torch
from torch import Tensor

from stl_ray.csc import Accuracy, Dictionary, operator_of, projection_vjp, reconstruct, split_bands

TIGHT = Accuracy(penalty=20, violation=1e-9, change=1e-10, max_iterations=50_000)


def _images(small: tuple[Tensor, Dictionary]) -> Tensor:
    return small[0] + 0.5


def test_agrees_with_central_differences(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    support = reconstruct(images, dictionary, 0.2, TIGHT).support
    assert support.flatten(1).any(1).all()
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        direction, v = torch.randn((2, *images.shape), dtype=torch.float64, generator=generator)
        step = 1e-6
        ahead, behind = (reconstruct(images + sign * step * direction, dictionary, 0.2, TIGHT) for sign in (1, -1))
        assert torch.equal(ahead.support, support)
        assert torch.equal(behind.support, support)
        expected = ((ahead.images - behind.images) / (2 * step) * v).sum((1, 2, 3))
        got = (direction * projection_vjp(v, support, dictionary, steps=500)).sum((1, 2, 3))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


def test_agrees_with_a_dense_projector(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    support = reconstruct(images, dictionary, 0.2, TIGHT).support
    operator = operator_of(dictionary, 13, 10, torch.float64, images.device)
    v = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = projection_vjp(v, support, dictionary, steps=500)
    for index in range(2):
        where = support[index].nonzero().tolist()
        units = torch.zeros((len(where), *support.shape[1:]), dtype=torch.float64)
        for row, (k, i, j) in enumerate(where):
            units[row, k, i, j] = 1
        atoms = operator.forward(units).flatten(1).T
        on_span = atoms @ torch.linalg.lstsq(atoms, v[index].flatten()).solution
        rest = v[index].flatten() - on_span
        # <J^T v, h> = <P v, h> + <v - P v, L h> for every h: the low band's transpose by its action.
        h = torch.randn(
            images[index : index + 1].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        expected = (on_span * h.flatten()).sum() + (rest * split_bands(h)[0].flatten()).sum()
        torch.testing.assert_close((got[index] * h[0]).sum(), expected, rtol=1e-6, atol=1e-6)


def test_invariant_an_empty_support_leaves_the_low_band(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    empty = torch.zeros(2, 6, 13, 10, dtype=torch.bool)
    v = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient = projection_vjp(v, empty, dictionary, steps=30)
    torch.testing.assert_close((gradient * images).sum(), (v * split_bands(images)[0]).sum())


def test_invariant_alone_and_in_a_batch(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:4]
    support = reconstruct(images, dictionary, 0.2, "default").support
    together = projection_vjp(images, support, dictionary, steps=30)
    for index in range(4):
        part = slice(index, index + 1)
        assert torch.equal(projection_vjp(images[part], support[part], dictionary, steps=30)[0], together[index])


def test_invariant_thirty_steps_are_close_to_convergence(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:4]
    support = reconstruct(images, dictionary, 0.2, "default").support
    v = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    few = projection_vjp(v, support, dictionary, steps=30).flatten(1)
    many = projection_vjp(v.double(), support, dictionary, steps=1000).float().flatten(1)
    assert torch.cosine_similarity(few, many).min() > 0.99
