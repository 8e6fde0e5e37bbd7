import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from stl_ray.attacks import Budget, make_attack
from stl_ray.defenses import Defended, deployed_seeds
from stl_ray.defenses.diffusion import TILE, Diffusion, DiffusionOptions
from stl_ray.defenses.diffusion_denoiser import KIND, SCHEDULE, VERSION, DiffusionDenoiser
from stl_ray.defenses.diffusion_process import LEVELS, alpha_bars, denoised, drawn, fresh_share, noised
from stl_ray.defenses.diffusion_unet import UNet
from stl_ray.errors import ArtifactError, ConfigError, TensorError
from stl_ray.images import quantize
from stl_ray.models import build_classifier, seeded
from stl_ray.seeding import seed_of
from stl_ray.store import save_artifact

MEAN, SPREAD = 0.1, 0.3


def denoiser(width: int = 8, seed: int = 0, levels: int = 120) -> DiffusionDenoiser:
    return DiffusionDenoiser.trained(seeded(lambda: UNet(width), seed).state_dict(), alpha_bars(levels))


def made(start: int = 90, steps: int = 3, eta: float = 1.0, **which) -> Diffusion:
    return Diffusion(denoiser(**which), start, steps, eta)


class Optimal(nn.Module):
    """The best denoiser of pixels in [-1, 1] that are independent and normal: e = (x_t - sqrt(a) E[x_0 | x_t]) / sqrt(1 - a)."""

    def forward(self, noisy: Tensor, levels: Tensor) -> Tensor:
        kept = alpha_bars(LEVELS)[levels - 1].to(noisy)[:, None, None, None]
        clean = posterior_mean(noisy, kept)
        return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()


def posterior_mean(noisy: Tensor, alpha_bar: Tensor) -> Tensor:
    gain = SPREAD**2 * alpha_bar.sqrt() / (alpha_bar * SPREAD**2 + 1 - alpha_bar)
    return MEAN + gain * (noisy - alpha_bar.sqrt() * MEAN)


@dataclass(frozen=True)
class OptimalDenoiser:
    """In the place of a trained one."""

    alpha_bars: Tensor
    levels: int = LEVELS
    digest: str = "optimal"

    def like(self, images: Tensor) -> nn.Module:
        return Optimal()


def noise_of(images: Tensor, seeds: list[int], level: int) -> Tensor:
    return drawn(images, [seed_of(seed, f"level {level}", "diffusion") for seed in seeds])


@pytest.mark.parametrize("start", [1, 100, 400])
def test_agrees_one_step_with_the_posterior_mean_of_a_normal_prior(start):
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.4 + 0.3
    defense, seeds = Diffusion(OptimalDenoiser(alpha_bars(LEVELS)), start, 1), [1, 2, 3]
    kept = alpha_bars(LEVELS)[start - 1]
    noisy = kept.sqrt() * (2 * images - 1) + (1 - kept).sqrt() * noise_of(images, seeds, start)
    expected = ((posterior_mean(noisy, kept) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(defense.purify(images, seeds=seeds).images, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("steps", "eta"), [(100, 1.0), (10, 1.0), (10, 0.0)])
def test_certificate_the_chain_has_the_moments_that_follow_from_its_steps(steps, eta):
    """With the best denoiser every step is linear: mean and variance of what comes out of one image follow step by step."""
    images = torch.full((1, 3, 96, 96), 0.7, dtype=torch.float64)
    defense = Diffusion(OptimalDenoiser(alpha_bars(LEVELS)), 100, steps, eta)
    kept = [1.0, *alpha_bars(LEVELS).tolist()]
    mean, variance = math.sqrt(kept[100]) * 0.4, 1 - kept[100]
    levels = [100 * number // steps for number in range(steps, -1, -1)]
    for level, lower in pairwise(levels):
        now, after = kept[level], kept[lower]
        sigma2 = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        gain = SPREAD**2 * math.sqrt(now) / (now * SPREAD**2 + 1 - now)  # of the clean image
        noise_gain = (1 - math.sqrt(now) * gain) / math.sqrt(1 - now)
        slope = math.sqrt(after) * gain + math.sqrt(max(1 - after - sigma2, 0)) * noise_gain
        clean = MEAN + gain * (mean - math.sqrt(now) * MEAN)
        noise = (mean - math.sqrt(now) * clean) / math.sqrt(1 - now)
        mean = math.sqrt(after) * clean + math.sqrt(max(1 - after - sigma2, 0)) * noise
        variance = slope**2 * variance + sigma2
    purified = 2 * defense.purify(images, seeds=[5]).images - 1
    count = purified.numel()
    assert float(purified.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / count))
    # Values beyond white are clipped: few, at three standard deviations.
    assert float(purified.std()) == pytest.approx(math.sqrt(variance), rel=0.03)


def by_hand(defense: Diffusion, images: Tensor, seeds: list[int]) -> Tensor:
    """The chain as it is written, all of it on torch's graph, each image alone in a tile."""
    network, kept = defense.denoiser.like(images), [1.0, *defense.denoiser.alpha_bars.tolist()]
    rows = []
    for image, seed in zip(images, seeds, strict=True):
        tile, own = image.expand(TILE, *image.shape), [seed] * TILE
        now = noised(2 * tile - 1, noise_of(tile, own, defense.start), kept[defense.start])
        levels = [number * defense.start // defense.steps for number in range(defense.steps, -1, -1)]
        for level, lower in pairwise(levels):
            sigma = fresh_share(kept[level], kept[lower], defense.eta)
            said = network(now, torch.full((TILE,), level))
            now = denoised(now, said, kept[level], kept[lower], sigma)
            now = now + sigma * noise_of(tile, own, lower) if lower else now
        rows.append(((now[0] + 1) / 2).clamp(0, 1))
    return torch.stack(rows)


@pytest.mark.parametrize("eta", [1.0, 0.0])
def test_agrees_the_recomputed_gradient_with_that_of_the_whole_graph(natural_images, eta):
    """The same noise when a step is recomputed, whatever torch's own generator says in between."""
    defense, images = made(eta=eta), natural_images[: TILE + 2, :, :16, :16] * 0.8 + 0.1
    seeds, v = list(range(TILE + 2)), torch.randn(TILE + 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    leaf = images.clone().requires_grad_()
    expected = by_hand(defense, leaf, seeds)
    (product,) = torch.autograd.grad(expected, leaf, v)
    purified, pullback = defense.linearised("exact")(images, seeds)
    with torch.random.fork_rng():
        torch.manual_seed(77)
        torch.rand(5)
        once = pullback(v)
    torch.testing.assert_close(purified, expected.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(once, product, rtol=1e-4, atol=1e-5 * float(product.abs().max()))
    assert torch.equal(pullback(v), once) and torch.equal(defense.purify(images, seeds=seeds).images, purified)


def test_certificate_the_exact_gradient_by_differences(natural_images):
    defense, seeds = made(steps=4), list(range(3))
    images = natural_images[:3, :, 4:17, 4:18].double() * 0.8 + 0.1
    generator = torch.Generator().manual_seed(0)
    v, along = (torch.randn(images.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    linearised = defense.linearised("exact")
    _, pullback = linearised(images, seeds)
    ahead, behind = (linearised(images + step * along, seeds)[0] for step in (1e-6, -1e-6))
    expected = ((ahead - behind) / 2e-6 * v).flatten(1).sum(1)
    # Few pixels cross the clip to [0, 1] within a step, and the chain is smooth.
    torch.testing.assert_close((pullback(v) * along).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-4)


def test_invariant_a_gradient_holds_the_activations_of_one_step(natural_images):
    """What torch keeps for the way back grows with the steps by an image each, and by a whole network without checkpoints."""
    images, held = natural_images[:TILE], []

    def kept(tensor: Tensor) -> Tensor:
        held.append(tensor.nbytes)
        return tensor

    def of(function, *arguments) -> int:
        held.clear()
        with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
            function(*arguments)
        return sum(held)

    seeds = list(range(TILE))
    few, many = (of(made(steps=steps).linearised("exact"), images, seeds) for steps in (2, 12))
    whole = of(lambda: made().step(images.clone().requires_grad_(), seeds, 90, 60))
    assert many - few < images.nbytes * 20 < whole


def test_identity_sides_are_mirrored_to_multiples_of_the_networks_and_cut_again(natural_images):
    defense, images = made(), natural_images[:2, :, :21, :30]
    whole = F.pad(images, (0, 2, 0, 3), mode="reflect")
    purified = defense.purify(images, seeds=[3, 4]).images
    assert torch.equal(purified, defense.purify(whole, seeds=[3, 4]).images[..., :21, :30])


def test_identity_every_step_has_noise_of_its_own_and_ddim_the_first_alone(natural_images):
    images, seeds = natural_images[:1].expand(2, -1, -1, -1).contiguous(), [3, 4]
    kept = [1.0, *alpha_bars(120).tolist()]
    defense, plain = made(), made(eta=0.0)
    noises = [(defense.begun(images, seeds) - math.sqrt(kept[90]) * images) / math.sqrt(1 - kept[90])]
    for level, lower in defense.chain[:-1]:
        sigma = fresh_share(kept[level], kept[lower], 1.0)
        said = defense.denoiser.like(images)(images, torch.full((2,), level))
        mean = denoised(images, said, kept[level], kept[lower], sigma)
        noises.append((defense.step(images, seeds, level, lower) - mean) / sigma)
    for number, one in enumerate(noises):
        assert float(one.std()) == pytest.approx(1, abs=0.05)  # of 6144 draws
        assert float((one[0] - one[1]).abs().mean()) > 0.5
        assert all(float((one - other).abs().mean()) > 0.5 for other in noises[:number])
    assert torch.equal(*plain.step(images, seeds, 60, 30)) and torch.equal(*defense.step(images, seeds, 30, 0))


def test_invariant_autocast_changes_nothing(natural_images):
    defense, images = made(), natural_images[:2]
    plain, pullback = defense.linearised("exact")(images, [1, 2])
    product = pullback(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(defense.purify(images, seeds=[1, 2]).images, plain)
        again, pullback = defense.linearised("exact")(images, [1, 2])
        assert torch.equal(again, plain) and torch.equal(pullback(images), product)


def test_invariant_an_attack_goes_through_the_chain_and_a_verdict_has_another_draw(natural_images, monkeypatch):
    draws: list[tuple[int, ...]] = []
    transformed = Diffusion.transformed

    def recorded(self, images, seeds):
        draws.append(tuple(seeds))
        return transformed(self, images, seeds)

    monkeypatch.setattr(Diffusion, "transformed", recorded)
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    images, ids = quantize(natural_images[:2]), ["test/0", "test/1"]
    victim = Defended(classifier, made(steps=2), "exact", samples=3)
    labels = victim.decide(images, ids).prediction
    judged = set(draws)
    assert judged == {tuple(deployed_seeds(0, ids))}
    draws.clear()
    attack = make_attack("pgd", {"steps": 4})
    result = attack(victim, images, labels, budget=Budget(kind="linf", size=26 / 255), ids=ids, seed=0)
    assert len({seed for draw in draws for seed in draw}.intersection(deployed_seeds(0, ids))) == 0
    assert len(set(draws)) == len(draws) >= 4 * 3  # three draws for each gradient, each its own
    draws.clear()
    before, after = (victim.verdict_logits(batch, ids).log_softmax(1) for batch in (images, result.images))
    assert set(draws) == judged
    rows = torch.arange(2)
    assert bool((after[rows, labels] < before[rows, labels]).all())


def test_roundtrip_the_digest_is_that_of_weights_and_levels(tmp_path):
    one = denoiser()
    digests = {one.save(str(tmp_path / str(number)), {"images": number}) for number in range(2)}
    assert len(digests) == 2  # of the records too
    loaded = [DiffusionOptions().recipe.load(str(tmp_path / str(number))) for number in range(2)]
    assert {each.digest for each in loaded} == {one.digest}
    assert one.digest not in {denoiser(seed=1).digest, denoiser(levels=119).digest}
    assert all(torch.equal(tensor, loaded[0].weights[name]) for name, tensor in one.weights.items())
    assert torch.equal(loaded[0].alpha_bars, one.alpha_bars) and loaded[0].levels == 120
    wide = denoiser(16)
    wide.save(str(tmp_path / "wide"), {})
    # The width is that of the weights.
    assert DiffusionOptions().recipe.load(str(tmp_path / "wide")).digest == wide.digest


def test_refuses_an_artifact_that_was_altered(tmp_path):
    denoiser().save(str(tmp_path), {})
    path = tmp_path / f"{KIND}.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="altered"):
        DiffusionDenoiser.load(str(tmp_path))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "not a network"), ("extra", "not a network"), ("shape", "not a network"), ("type", "not a network"),
        ("width", "not a network"), ("infinite", "not finite"), ("no levels", "no levels"), ("rising", "no levels"),
        ("levels of NaN", "no levels"),
    ],
)  # fmt: skip
def test_refuses_weights_of_another_network_and_levels_that_are_none(tmp_path, fault, message):
    one = denoiser()
    arrays = {name: tensor.numpy().copy() for name, tensor in {**one.weights, SCHEDULE: one.alpha_bars}.items()}
    if fault == "missing":
        del arrays["last.bias"]
    elif fault == "extra":
        arrays["more"] = np.zeros(3, np.float32)
    elif fault == "shape":
        arrays["last.bias"] = np.zeros(4, np.float32)
    elif fault == "type":
        arrays["last.bias"] = np.zeros(3)
    elif fault == "width":
        arrays["first.bias"] = np.zeros(9, np.float32)
    elif fault == "infinite":
        arrays["last.bias"][0] = np.inf
    elif fault == "no levels":
        del arrays[SCHEDULE]
    elif fault == "rising":
        arrays[SCHEDULE] = arrays[SCHEDULE][::-1].copy()
    else:
        arrays[SCHEDULE][3] = np.nan
    save_artifact(str(tmp_path / "bad"), KIND, VERSION, arrays, {})
    with pytest.raises(ArtifactError, match=message) as caught:
        DiffusionDenoiser.load(str(tmp_path / "bad"))
    assert caught.value.item == str(tmp_path / "bad")


def test_refuses_more_noise_than_was_learned_and_more_steps_than_levels():
    assert Diffusion(denoiser(levels=90), 90, 90).identity()["steps"] == 90
    with pytest.raises(ConfigError, match=r"more noise than the denoiser was trained at; expected at most 90; got 91"):
        Diffusion(denoiser(levels=90), 91, 1)
    for options in ({"start": 9, "steps": 10}, {"start": 101, "levels": 100}, {"width": 12}, {"side": 30}):
        with pytest.raises(ValidationError):
            DiffusionOptions.model_validate(options)
    elsewhere = {"start": 101, "levels": 100, "load": "/elsewhere"}  # the levels are then those of what is loaded
    assert DiffusionOptions.model_validate(elsewhere).start == 101


def test_refuses_what_is_no_batch_of_images(natural_images):
    for images in (
        natural_images[:1, :1], natural_images[0], natural_images[:0], natural_images[:1] * torch.nan,
        natural_images[:1, :, :3],
    ):  # fmt: skip
        with pytest.raises(TensorError):
            made().purify(images, seeds=[0])
    assert made().purify(natural_images[:1, :, :4, :5], seeds=[0]).images.shape == (1, 3, 4, 5)
