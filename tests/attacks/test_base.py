import pytest
import torch

from stl_ray.attacks import AttackStatus, Budget, make_attack
from stl_ray.errors import ConfigError, StlRayError, TensorError
from stl_ray.images import to_tensor, to_uint8
from stl_ray.metrics import dissimilarity, linf
from stl_ray.models import build_classifier, predict


@pytest.fixture
def arguments(images, labels):
    ids = [f"image/{index}" for index in range(len(images))]
    return {"images": images, "labels": labels, "budget": Budget(size=0.05), "ids": ids, "seed": 1}


def attack(victim, images, labels, **rest):
    return make_attack("fgsm", {})(victim, images, labels, **rest)


def test_identity_result_is_what_storing_and_measuring_again_gives(victim, images, arguments):
    result = attack(victim, **arguments)
    stored = to_tensor(list(to_uint8(result.images)))
    assert torch.equal(stored, result.images)
    torch.testing.assert_close(result.dissimilarity, dissimilarity(stored.double(), images.double()).float())
    torch.testing.assert_close(result.linf, linf(stored, images), rtol=0, atol=1e-6)
    assert torch.equal(result.source_pred, predict(victim, stored))
    assert torch.equal(result.success, result.source_pred != arguments["labels"])
    assert result.status == [AttackStatus.OK] * len(images)
    assert result.success.any()


def test_certificate_status_and_success_of_wrong_and_black_images(victim, images, arguments):
    labels = (arguments["labels"] + torch.tensor([1] + [0] * 23)) % 3
    images = images.clone()
    images[1] = 0
    labels[1] = int(predict(victim, images[1:2]))
    result = attack(victim, **{**arguments, "images": images, "labels": labels})
    assert result.status[:3] == ["already_wrong", "budget_unreachable", "ok"]
    assert not result.success[:2].any()
    assert float(result.dissimilarity[0]) > 0.049  # attacked although misclassified
    assert float(result.dissimilarity[1]) == 0
    assert torch.equal(result.images[1], images[1])


def test_invariant_rounding_stream_is_the_image_ids_and_the_seeds(victim, arguments):
    first = attack(victim, **arguments).images
    assert not torch.equal(first, attack(victim, **{**arguments, "seed": 2}).images)
    renamed = [f"other/{name}" for name in arguments["ids"]]
    assert not torch.equal(first, attack(victim, **{**arguments, "ids": renamed}).images)


@pytest.mark.parametrize(
    ("change", "item"),
    [
        ({"images": torch.zeros(0, 3, 32, 32)}, "images"),
        ({"images": torch.zeros(24, 1, 32, 32)}, "images"),
        ({"images": torch.zeros(24, 3, 32, 32, dtype=torch.float64)}, "images"),
        ({"images": torch.full((24, 3, 32, 32), 2.0)}, "image/0"),
        ({"images": torch.full((24, 3, 32, 32), float("nan"))}, "image/0"),
        ({"labels": torch.zeros(23, dtype=torch.int64)}, "labels"),
        ({"labels": torch.full((24,), -1)}, "labels"),
        ({"labels": torch.zeros(24)}, "labels"),
        ({"ids": ["one"]}, "ids"),
    ],
)
def test_refuses_arguments_that_do_not_fit(victim, arguments, change, item):
    with pytest.raises(TensorError) as caught:
        attack(victim, **{**arguments, **change})
    assert caught.value.item == item


def test_identity_images_that_are_rounded_otherwise_are_those_of_the_grid(victim, images, arguments):
    # As by torchvision's ToDtype(scale=True).
    rounded = (images * 255).round() * (1 / 255)
    assert not torch.equal(rounded, images)
    assert torch.equal(attack(victim, **{**arguments, "images": rounded}).images, attack(victim, **arguments).images)


def test_refuses_an_image_off_the_grid_and_says_which_and_how_far(victim, images, arguments):
    images = images.clone()
    images[5, 0, 0, 0] = 0.3
    with pytest.raises(TensorError, match=r"0\.002 off") as caught:
        attack(victim, **{**arguments, "images": images})
    assert caught.value.item == "image/5"


def test_refuses_a_label_beyond_the_classes(victim, arguments):
    with pytest.raises(TensorError, match="0 to 2"):
        attack(victim, **{**arguments, "labels": arguments["labels"] + 3})


def test_identity_without_finite_gradients_the_clean_images_stay_and_say_so(victim, images, arguments):
    class Broken:
        def logits(self, images):
            return victim.logits(images)

        def logits_and_vjp(self, images, cotangent):
            logits, product = victim.logits_and_vjp(images, cotangent)
            return logits, product * float("nan")

    result = attack(Broken(), **arguments)
    assert set(result.status) == {"gradient_not_finite"}
    assert torch.equal(result.images, images)


@pytest.mark.parametrize(
    "module", [torch.nn.Flatten(), torch.nn.Sequential(build_classifier("small_cnn", ["a"], seed=0))]
)
def test_refuses_a_module_and_says_how_to_wrap_it(arguments, module):
    with pytest.raises(TensorError, match=r"stl_ray.models.Classifier\(module"):
        attack(module, **arguments)
    with pytest.raises(TensorError, match=r"stl_ray.models.Classifier\(module"):
        predict(module, arguments["images"])


@pytest.mark.parametrize("item", ["images", "labels"])
def test_refuses_arrays_and_says_what_to_give(victim, arguments, item):
    with pytest.raises(TensorError, match=r"torch\.as_tensor") as caught:
        attack(victim, **{**arguments, item: arguments[item].numpy()})
    assert caught.value.item == item


def test_refuses_a_victim_in_training_mode(arguments):
    with pytest.raises(StlRayError, match="training mode"):
        attack(build_classifier("small_cnn", ["a", "b"], seed=0), **arguments)


@pytest.mark.parametrize("fields", [{"size": 0.0}, {"size": float("nan")}, {"size": 1.5}, {"kind": "linf", "size": 2.0},
                                    {"kind": "linf", "size": 0.1, "space": "standardized"}])  # fmt: skip
def test_refuses_budgets_that_do_not_exist(fields):
    with pytest.raises(ValueError):
        Budget(**fields)


def test_refuses_parts_of_levels_in_8_bits(victim, arguments):
    budget = Budget(kind="linf", size=0.031)
    with pytest.raises(ConfigError, match="whole levels"):
        attack(victim, **{**arguments, "budget": budget})
    result = attack(victim, **{**arguments, "budget": budget}, store="f32")
    assert 0.999 * 0.031 <= float(result.linf.min()) <= float(result.linf.max()) <= 0.031


def test_agrees_standardized_dissimilarity_with_its_definition(victim, images, arguments):
    result = attack(victim, **{**arguments, "budget": Budget(size=0.05, space="standardized")})
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    changed, clean = ((batch.double() - mean) / std for batch in (result.images, images))
    expected = (changed - clean).flatten(1).norm(dim=1) / clean.flatten(1).norm(dim=1)
    torch.testing.assert_close(result.dissimilarity_standardized, expected.float())
    assert 0.98 * 0.05 <= float(expected.min()) <= float(expected.max()) <= 0.05
