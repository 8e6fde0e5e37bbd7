import pyarrow as pa
import pytest

from stl_ray.errors import InputError
from stl_ray.evaluation import attack_summaries
from stl_ray.images.schema import image_schema


def attacked(**changes) -> pa.Table:
    """Four rows without the image column."""
    columns = {
        "id": [f"test/{index}" for index in range(4)],
        "label": [0, 1, 2, 0],
        "attack": ["fgsm"] * 4,
        "success": [True, False, False, True],
        "status": ["ok", "already_wrong", "budget_unreachable", "ok"],
        "dissimilarity": [0.25, 0.25, 0.0, 0.5],
        "linf": [0.125, 0.25, 0.0, 0.0625],
        "queries": [1] * 4,
        "source_pred": [1, 0, 2, 1],
        **changes,
    }
    schema = image_schema("adversarial", None)
    return pa.Table.from_pydict(columns, schema=pa.schema([schema.field(name) for name in columns]))


def test_identity_summaries_by_hand():
    found = attack_summaries({"fgsm": attacked(), "bim": attacked(status=["ok"] * 4, success=[False] * 4)})
    assert list(found) == ["fgsm", "bim"]
    assert found["fgsm"] == {
        "images": 4,
        "statuses": {
            "ok": 2,
            "already_wrong": 1,
            "budget_unreachable": 1,
            "not_found": 0,
            "over_budget": 0,
            "no_gradient": 0,
            "gradient_not_finite": 0,
        },
        "successes": 2,
        "dissimilarity": {"min": 0.0, "mean": 0.25, "max": 0.5},
        "linf_max": 0.25,
    }
    assert found["bim"]["statuses"] == {status: 4 if status == "ok" else 0 for status in found["fgsm"]["statuses"]}
    assert found["bim"]["successes"] == 0


def test_invariant_order_of_rows_and_chunks():
    table = attacked()
    shuffled = pa.concat_tables([table.take([3, 1]), table.take([0, 2])])
    assert attack_summaries({"fgsm": shuffled}) == attack_summaries({"fgsm": table})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (attacked().slice(0, 0), "not an adversarial set"),
        (attacked().drop_columns(["linf"]), "not an adversarial set.*linf"),
        (attacked(dissimilarity=[0.1, None, 0.1, 0.1]), "fgsm dissimilarity: a measurement is missing"),
    ],
)
def test_refuses_tables_that_are_no_adversarial_set(table, message):
    with pytest.raises(InputError, match=message):
        attack_summaries({"fgsm": table})
