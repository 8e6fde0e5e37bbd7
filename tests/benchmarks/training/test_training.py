import pytest

from benchmarks.training import __main__ as training
from stl_ray.report.records import TrainingEpoch


def curve(*accuracies: float) -> training.Curve:
    epochs = [
        TrainingEpoch(
            epoch=number + 1,
            loss=2.0 - number,
            accuracy=0.5,
            validation_accuracy=accuracy,
            learning_rate=0.1,
            seconds=1.0,
            images_per_second=100.0 * (number + 1),
            data_wait=0.1,
        )
        for number, accuracy in enumerate(accuracies)
    ]
    return training.Curve(epochs, 1000)


@pytest.mark.parametrize(("accuracy", "aim"), [(0.931, "0.93, met"), (0.929, "0.93, missed")])
def test_identity_the_aim_is_compared_with_the_last_epoch(accuracy, aim):
    row = training._row("vgg16_bn_small", curve(0.99, accuracy), aims=True)
    assert row == ["vgg16_bn_small", "2", "2.000", "1.000", f"{accuracy:.4f}", aim, "150", "10.0%"]
    assert training._row("vgg16_bn_small", curve(0.99, accuracy), aims=False)[5] == "-"


def test_identity_the_page_compares_one_worker_with_two():
    options = training._parser().parse_args([])
    page = training._page(
        options, {"vgg16_bn_small": curve(0.4)}, {1: [0.8, 0.9, 0.85], 2: [0.9, 0.9, 0.9]}, "command", 3.0
    )
    assert "| 1 | 0.800 | 0.900 | 0.850 | 0.850 | 0.050 |" in page
    assert "| 2 | 0.900 | 0.900 | 0.900 | 0.900 | 0.000 |" in page
