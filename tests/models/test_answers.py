from types import SimpleNamespace

import pytest
import torch

from stl_ray.errors import TensorError
from stl_ray.models import Classifier
from stl_ray.models.answers import as_logits

LOGITS = torch.arange(10.0).reshape(2, 5)


@pytest.mark.parametrize(
    "wrap", [lambda z: z, lambda z: SimpleNamespace(logits=z), lambda z: {"logits": z, "loss": None}]
)
def test_identity_the_logits_of_an_answer(wrap):
    assert as_logits(wrap(LOGITS), 2, 5, "net") is LOGITS
    assert as_logits(wrap(LOGITS), 2, None, "net") is LOGITS


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ({"output": LOGITS}, "dict with output"),
        ((LOGITS, None), r"tuple of \(2, 5\) float32, NoneType"),
        ([LOGITS], r"list of \(2, 5\) float32"),
        (LOGITS[:, :, None, None], r"\(2, 5, 1, 1\) float32"),
        (LOGITS.int(), r"\(2, 5\) int32"),
        (LOGITS.argmax(1), r"\(2\) int64"),
        (LOGITS[:1], r"\(1, 5\) float32"),
        (LOGITS[0], r"\(5\) float32"),
        (LOGITS[:, :4], r"\(2, 4\) float32"),
        (LOGITS.numpy(), "ndarray"),
        (None, "NoneType"),
        (SimpleNamespace(logits=(LOGITS,)), r"tuple of \(2, 5\)"),
    ],
)
def test_refuses_an_answer_that_is_no_logits(answer, got):
    with pytest.raises(TensorError, match=rf"net: .* expected a float tensor \(2, 5\).* got {got}"):
        as_logits(answer, 2, 5, "net")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_agrees_whatever_type_a_network_computes_in(dtype):
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    answers = []
    for type_ in (torch.float32, dtype):
        torch.manual_seed(0)
        backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).to(type_)
        classifier = Classifier(backbone, architecture="net", class_names=list("abcde")).eval()
        answers.append(classifier.logits_and_vjp(images, torch.ones_like))
    for own, other in zip(*answers, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, own, rtol=0.05, atol=0.05)


def test_refuses_rows_that_are_not_the_images_of_any_number_of_classes():
    for answer in (LOGITS[:1], LOGITS[0], LOGITS[:, :, None]):
        with pytest.raises(TensorError, match=r"expected a float tensor \(2, n\)"):
            as_logits(answer, 2, None, "net")
