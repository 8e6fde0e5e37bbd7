import pytest

from stl_ray.config import Experiment
from stl_ray.report.differences import Difference, differences

TVM = {"name": "tvm", "defense": "tvm"}
JPEG = {"name": "jpeg", "defense": "jpeg", "options": {"quality": 75}}
FGSM = {"name": "fgsm-0.08", "attack": "fgsm", "dissimilarity": 0.08}
BIM = {"name": "bim", "attack": "bim", "linf": 8}


def experiment(**sections) -> Experiment:
    return Experiment.model_validate({"name": "a", "root": "runs/a", **sections}, strict=False)


def between(first: dict, second: dict) -> list[tuple[str, str, str]]:
    found = differences(experiment(**first), experiment(**second))
    assert all(isinstance(item, Difference) for item in found)
    return [(item.key, item.first, item.second) for item in found]


def test_identity_name_and_root_are_no_difference():
    assert between({}, {"name": "b", "root": "s3://bucket/b"}) == []


def test_identity_keys_are_dotted_with_both_values():
    first = {"seed": 1, "ingest": {"test": {"format": "photographs"}, "codec": "keep"}}
    second = {"ingest": {"test": {"format": "photographs", "limit": 5}}}
    assert between(first, second) == [
        ("seed", "1", "0"),
        ("ingest.test.limit", "absent", "5"),
        ("ingest.codec", '"keep"', '"png"'),
    ]


def test_identity_entries_are_matched_by_their_names_wherever_they_are():
    first = {"defenses": [JPEG, TVM], "attack": {"sets": [FGSM, BIM]}}
    second = {
        "defenses": [TVM, {**JPEG, "options": {"quality": 90}}],
        "attack": {"sets": [BIM, {**FGSM, "dissimilarity": 0.04}]},
    }
    assert between(first, second) == [
        ("defenses.jpeg.options.quality", "75", "90"),
        ("attack.sets.fgsm-0.08.dissimilarity", "0.08", "0.04"),
    ]


def test_identity_an_entry_or_a_section_of_one_alone_is_said_once():
    first = {"defenses": [JPEG, TVM], "classifiers": [{"name": "own", "architecture": "small_cnn"}]}
    second = {"defenses": [JPEG], "classifiers": [{"name": "own", "architecture": "small_cnn", "retrain": {}}]}
    assert between(first, second) == [
        ("classifiers.own.retrain", "absent", "given"),
        ("defenses.tvm", "given", "absent"),
    ]
    assert between({"defenses": []}, {"defenses": [TVM]}) == [("defenses.tvm", "absent", "given")]


def test_identity_lists_without_names_are_values():
    first, second = ({"project": {"splits": splits}} for splits in (["train"], ["train", "test"]))
    assert between(first, second) == [("project.splits", '["train"]', '["train", "test"]')]


@pytest.mark.parametrize(
    ("first", "second", "shown"), [(1, True, ("1", "true")), ("1", 1, ('"1"', "1")), ("absent", None, ('"absent"', "absent"))]
)  # fmt: skip
def test_certificate_values_of_other_types_are_told_apart(first, second, shown):
    one, other = ({"defenses": [{**TVM, "options": {} if v is None else {"x": v}}]} for v in (first, second))
    assert between(one, other) == [("defenses.tvm.options.x", *shown)]
