"""What the gallery shows of sets and predictions that have lost images to the quarantine."""

import pyarrow as pa
import pytest
import torch

from stl_ray.defenses import make_defense
from stl_ray.evaluation import DefendedClassifier
from stl_ray.models import build_classifier
from stl_ray.pipeline.classifiers import LoadedClassifier
from stl_ray.pipeline.defended import Block
from stl_ray.pipeline.evaluate.gallery import write_gallery
from stl_ray.store import Layout, Storage
from stl_ray.store.shards import table_from_bytes

IMAGES = 8
SETS = ("near", "far")


@pytest.fixture
def written(experiment_of, finished_run, image_tables, crops):
    """Writes a gallery of two sets, images of these numbers set aside; its rows, and the stored bytes by (set, id).

    Predicted for image n: n before the defense, n + 10 after it, for which some are `refused`.
    """
    pictures = crops((1 + len(SETS)) * IMAGES)
    classifier = LoadedClassifier(
        build_classifier("small_cnn", ["a", "b"], seed=0).eval(), "digest", torch.tensor([0, 1])
    )
    defended = DefendedClassifier.of(make_defense("jpeg", {}, {}), classifier.classifier, "digest", 0)

    def make(by_attack: dict[str, set[int]], by_evaluation: dict[str, set[int]], gallery: int = IMAGES):
        experiment = experiment_of(evaluate={"gallery": gallery})
        datasets, predictions = {}, {}
        for place, name in enumerate(("clean", *SETS)):
            tables = image_tables(pictures[place * IMAGES : (place + 1) * IMAGES], 5, 3)
            kept = [without(table, by_attack.get(name, set())) for table in tables]
            datasets[name] = finished_run(experiment, f"attack/{name}", *kept)
            answered = without(pa.concat_tables(kept), by_evaluation.get(name, set())).column("id").to_pylist()
            numbers = [number_of(identifier) for identifier in answered]
            labels = [number % 2 for number in numbers]
            for defense, setting, shift in (("none", "vanilla", 0), ("jpeg", "retrained", 10)):
                predictions[defense, name] = pa.table(
                    {
                        "id": answered,
                        "label": labels,
                        setting: [number + shift for number in numbers],
                        f"{setting}_rejected": [shift > 0 and refused(name, number) for number in numbers],
                    }
                )
        attacked = {name: datasets[name] for name in SETS}
        block = Block(experiment.classifiers[0], classifier, {"jpeg": defended})
        write_gallery(experiment, block, datasets["clean"], attacked, predictions)
        stored = {
            (name, row["id"]): row["image"]["bytes"]
            for name, dataset in datasets.items()
            for table in dataset.tables()
            for row in table.to_pylist()
        }
        gallery_bytes = Storage.open(experiment.root).read(Layout(experiment.root).gallery("vanilla"))
        return table_from_bytes(gallery_bytes, item="gallery").to_pylist(), stored

    return make


def number_of(identifier: str) -> int:
    return int(identifier.removeprefix("id-"))


def refused(name: str, number: int) -> bool:
    """Behind the defense: every third, and of the set `far` none after number 3."""
    return number % 3 == 0 and (name != "far" or number <= 3)


def without(table: pa.Table, numbers: set[int]) -> pa.Table:
    return table.filter(pa.array([number_of(name) not in numbers for name in table.column("id").to_pylist()]))


@pytest.mark.parametrize(
    ("by_attack", "by_evaluation", "left"),
    [
        ({}, {}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"near": {1}, "far": {6}}, {}, [0, 2, 3, 4, 5, 7]),
        ({"near": {7}}, {}, [0, 1, 2, 3, 4, 5, 6]),
        ({}, {"far": {3}}, [0, 1, 2, 4, 5, 6, 7]),
    ],
)
def test_invariant_an_image_stands_beside_its_own_clean_one_and_its_own_classes(
    written, by_attack, by_evaluation, left
):
    rows, stored = written(by_attack, by_evaluation)
    rows = [row for row in rows if row["why"] == "spaced"]
    assert [(row["attack"], number_of(row["id"])) for row in rows] == [(name, n) for name in SETS for n in left]
    for row in rows:
        number = number_of(row["id"])
        assert row["clean"] == stored["clean", row["id"]]
        assert row["adversarial"] == stored[row["attack"], row["id"]]
        assert (row["label"], row["pred_before"], row["pred_after"]) == (number % 2, number, number + 10)
        assert (row["right_before"], row["refused_after"], row["right_after"]) == (
            number < 2,
            *[refused(row["attack"], number)] * 2,
        )


def test_identity_images_are_spread_evenly_over_those_that_are_in_every_set(written):
    rows, _ = written({"near": {7}, "far": {0}}, {}, gallery=2)
    assert [number_of(row["id"]) for row in rows if row["why"] == "spaced"] == [1, 6] * 2


def test_identity_saved_under_the_hardest_set_and_broken_when_clean(written):
    """Of a set, what is refused behind the defense is right there; without it and when clean, numbers 0 and 1 are."""
    rows, stored = written({}, {})
    shown = [(row["why"], row["attack"], number_of(row["id"])) for row in rows if row["why"] != "spaced"]
    assert shown == [("saved", "far", 3), ("broken", "clean", 0), ("broken", "clean", 1)]
    assert all(row["adversarial"] == stored[row["attack"], row["id"]] for row in rows)
    assert [(row["right_before"], row["right_after"]) for row in rows[-3:]] == [(False, True)] + [(True, False)] * 2
