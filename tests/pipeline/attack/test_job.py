"""Adversarial sets on a small experiment, every shard made here instead of in an actor."""

import shutil

import numpy as np
import pytest
import torch

from stl_ray.config import NamedAttack
from stl_ray.errors import ConfigError, GradientError, IncompleteRunError, TensorError, TrainingError
from stl_ray.images import quantize, to_tensor, to_uint8
from stl_ray.metrics import dissimilarity
from stl_ray.models import build_classifier, predict, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.attack import target
from stl_ray.pipeline.attack.calibration import KIND, VERSION, drawn, make_calibration
from stl_ray.pipeline.attack.sets import all_sets
from stl_ray.pipeline.attack.target import victims_of
from stl_ray.pipeline.batches import exact_pixels_of, pixels_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.seeding import seed_of
from stl_ray.store import Dataset, Layout, Run, save_artifact

VANILLA = [{"name": "vanilla", "architecture": "small_cnn"}]
PLAIN = {"name": "set", "attack": "bim", "options": {"steps": 3}, "dissimilarity": 0.05}


@pytest.fixture
def classifier():
    return build_classifier("small_cnn", ["a", "b"], seed=0).eval()


@pytest.fixture
def made(experiment_of, finished_run, image_tables, natural_images, classifier):
    """Makes an experiment with these sets: ten test images of 16 pixels in two shards, twelve training images."""

    def make(*sets, **sections):
        own = experiment_of(attack={"sets": sets}, **sections)
        layout = Layout(own.root)
        images = quantize(natural_images[:, :, 8:24, 8:24])
        finished_run(own, layout.ingested("test"), *image_tables(list(to_uint8(images[::2][:10])), 6, 4))
        finished_run(own, layout.ingested("train"), *image_tables(list(to_uint8(images[1::2])), 12))
        save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        return own

    return make


def calibrated_here(experiment) -> None:
    """Calibrate the first set in this process."""
    (config, *_), layout = all_sets(experiment), Layout(experiment.root)
    (attacked,) = attack.victims_of([config], experiment, ["a", "b"])
    save_artifact(
        layout.uri(layout.calibration("vanilla", config.name)),
        KIND,
        VERSION,
        *make_calibration(experiment, config, attacked.identity),
    )


def crafted(
    experiment, name: str = "set", classifier: str = "vanilla"
) -> tuple[list[dict], torch.Tensor, torch.Tensor]:
    """Rows, exact adversarial images and clean images of a set that is made here."""
    job = attack.plan(experiment)
    work = job.make_task()
    for planned in job.runs:
        run = Run.open(experiment.root, planned.folder)
        made = {name: make(None) for name, make in planned.made.items()}
        run.start(planned.plan, identity={**planned.identity, **made}, environment={})
        for shard in planned.plan:
            run.publish(shard, work(planned.folder, shard).table, [], seconds=0, attempt=1, environment={})
        run.finish(max_quarantined=0)
    layout = Layout(experiment.root)
    clean = [
        image for table in dataset_of(experiment.root, layout.ingested("test")).tables() for image in pixels_of(table)
    ]
    tables = list(Dataset.open(layout.uri(layout.attacked(classifier, name))).tables())
    rows = [row for table in tables for row in table.to_pylist()]
    return rows, to_tensor([image for table in tables for image in exact_pixels_of(table)]), to_tensor(clean)


@pytest.mark.parametrize("store", ["u8", "f32"])
def test_roundtrip_rows_say_what_the_stored_image_is(made, classifier, store):
    rows, images, clean = crafted(made({**PLAIN, "store": store}))
    assert [row["id"] for row in rows] == [f"id-{n}" for n in range(10)]
    expected = dissimilarity(images.double(), clean.double())
    torch.testing.assert_close(torch.tensor([row["dissimilarity"] for row in rows]), expected.float())
    assert bool((expected <= 0.05).all()) and bool((expected >= {"u8": 0.98, "f32": 0.999}[store] * 0.05).all())
    assert torch.tensor([row["source_pred"] for row in rows]).equal(predict(classifier, images))
    assert all((row["pixels"] is None) == (store == "u8") for row in rows)
    assert torch.equal(images, quantize(images)) == (store == "u8")


def test_certificate_one_radius_for_all_has_the_mean_dissimilarity(made):
    own = made({**PLAIN, "budget": "dataset_mean", "store": "f32"})
    with pytest.raises(IncompleteRunError, match="not calibrated"):
        test = dataset_of(own.root, Layout(own.root).ingested("test"))
        attack.identity_of(own, all_sets(own)[0], victims_of(all_sets(own), own, ["a", "b"])[0], test)
    calibrated_here(own)
    rows, _, _ = crafted(own)
    assert np.mean([row["dissimilarity"] for row in rows]) == pytest.approx(0.05, rel=1e-3)
    assert np.ptp([row["l2"] for row in rows]) < 1e-3
    assert np.ptp([row["dissimilarity"] for row in rows]) > 0.005


@pytest.mark.parametrize("method", ["uap", "uap_gradient"])
def test_certificate_every_shard_gets_the_one_vector(made, method):
    own = made({**PLAIN, "attack": method, "options": {"epochs": 1}})
    calibrated_here(own)
    rows, images, clean = crafted(own)
    change = (images - clean) * 255
    inside = (images > 0) & (images < 1)
    vectors = torch.where(inside, change.round(), torch.nan)
    assert torch.equal(vectors.nan_to_num(nan=-1e9).amax(dim=0)[None].expand_as(change)[inside], change.round()[inside])
    assert float(change.abs().max()) > 0
    assert np.mean([row["dissimilarity"] for row in rows]) <= 0.05


NETWORK = """
import torch
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))
"""


def test_identity_names_what_is_attacked_and_attacks_it(made, tmp_path, monkeypatch):
    (tmp_path / "somebodys.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    own = made(
        PLAIN,
        {**PLAIN, "name": "defended", "victim": {"defense": "jpeg", "gradient": "bpda"}},
        {**PLAIN, "name": "own", "victim": {"classifier": "theirs"}},
        classifiers=[*VANILLA, {"name": "theirs", "architecture": "somebodys:network", "scored": False}],
        defenses=[{"name": "jpeg", "defense": "jpeg"}],
    )
    plain, defended, foreign = (run.identity for run in attack.plan(own).runs)
    assert isinstance(plain["classifier"], str)
    assert defended["classifier"]["classifier"] == plain["classifier"]
    assert defended["classifier"]["gradient"] == "bpda"
    assert "quality" in str(defended["classifier"]["defense"])
    assert foreign["classifier"]["architecture"] == "somebodys:network"
    rows, images, clean = crafted(own, "own", "theirs")
    import somebodys

    with torch.no_grad():
        before, after = (somebodys.network()(batch) for batch in (clean, images))
    labels = torch.tensor([row["label"] for row in rows])
    assert [row["source_pred"] for row in rows] == after.argmax(dim=1).tolist()
    loss = torch.nn.functional.cross_entropy
    assert bool((loss(after, labels, reduction="none") > loss(before, labels, reduction="none")).all())


def test_invariant_a_worker_loads_a_classifier_and_a_defense_once(made, monkeypatch):
    sets = [
        {**PLAIN, "name": f"{name}-{number}", "victim": victim}
        for name, victim in (("alone", {}), ("behind", {"defense": "jpeg", "gradient": "bpda"}))
        for number in range(2)
    ]
    mild = {"name": "mild", "defense": "jpeg", "options": {"quality": 95}}
    own = made(*sets, defenses=[{"name": "jpeg", "defense": "jpeg"}, mild])
    read, real = [], target.load_classifier
    monkeypatch.setattr(target, "load_classifier", lambda *given: read.append(given[1:3]) or real(*given))
    work = attack.plan(own).make_task()
    assert read == 2 * [("vanilla", None)]  # the driver, and the worker
    alone, another, behind, same = (work._sets[f"attack/vanilla/{item['name']}"][1].victim for item in sets)
    assert alone is another is behind.classifier
    assert behind.defense is same.defense


ODD = """
import torch
class Odd(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.answer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 3)), answer
    def forward(self, images):
        return self.answer(self.net, images)
classes = lambda: Odd(lambda net, images: net(images))
softmax = lambda: Odd(lambda net, images: net(images)[:, :2].softmax(1))
rounds = lambda: Odd(lambda net, images: net(images.round())[:, :2])
half = lambda: Odd(lambda net, images: net(images)[:, :2]).bfloat16()
"""


def test_refuses_odd_models_before_any_shard_and_remarks_on_others(made, tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)

    def looked(function, **more):
        return attack.look(made({**PLAIN, **more}, classifiers=[{"name": "odd", "architecture": f"odd:{function}"}]))

    with pytest.raises(TensorError, match=r"odd:classes: .* expected a float tensor \(8, 2\).* got \(8, 3\)"):
        looked("classes")
    with pytest.raises(GradientError, match="odd: the model's gradient is zero for every image"):
        looked("rounds")
    with pytest.raises(TensorError, match="odd: the model's answers are probabilities"):
        looked("softmax")
    for function, more, expected in (
        ("rounds", {"attack": "square", "options": {}}, "zero for every image"),
        ("softmax", {"attack": "square", "options": {}}, "answers are probabilities"),
        ("half", {}, "bfloat16's precision"),
    ):
        with pytest.warns(UserWarning, match=expected):
            assert expected in looked(function, **more)["remark"]


def test_identity_names_a_network_of_any_type(made, tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    own = made(PLAIN, classifiers=[{"name": "odd", "architecture": "odd:half"}])
    assert attack.plan(own).runs[0].identity == attack.plan(own).runs[0].identity
    rows, _, _ = crafted(own, classifier="odd")
    assert len(rows) == 10


@pytest.mark.parametrize(
    ("architecture", "match"), [("no.such:module", "imported"), ("os:getcwd", "returns no network")]
)
def test_refuses_what_cannot_be_attacked(made, architecture, match):
    with pytest.raises(ConfigError, match=match):
        attack.plan(made(PLAIN, classifiers=[{"name": "odd", "architecture": architecture}]))


def test_invariant_the_driver_plans_without_reading_an_image(made, monkeypatch):
    own = made(PLAIN, {**PLAIN, "name": "mean", "budget": "dataset_mean"})
    monkeypatch.setattr(Dataset, "bytes_of", None)  # what reads whole parts
    assert [planned.folder for planned in attack.plan(own).runs] == ["attack/vanilla/set", "attack/vanilla/mean"]


def test_invariant_of_the_training_split_only_parts_with_drawn_images_are_read(made, finished_run, image_tables, crops):
    own = made(PLAIN)
    train = finished_run(own, "ingest/many", *image_tables(crops(12), *[2] * 6))
    lowest = sorted(train.column("id"), key=lambda name: seed_of(0, name, "universal training"))[:2]
    read, real = [], Dataset.bytes_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "bytes_of", lambda self, part: read.append(part["file"]) or real(self, part))
        images = drawn(train, 2, seed=0)
    assert torch.equal(images, to_tensor([crops(12)[by_number(name)] for name in sorted(lowest, key=by_number)]))
    assert read == [train.parts[number]["file"] for number in sorted({by_number(name) // 2 for name in lowest})]


def by_number(name: str) -> int:
    return int(name.removeprefix("id-"))


def test_refuses_test_images_without_a_label(made, finished_run, image_tables, crops):
    own = made(PLAIN)
    (table,) = image_tables(crops(3), 3)
    column = table.schema.get_field_index("label")
    unlabelled = table.set_column(column, table.schema.field(column), [[0, -1, 1]])
    shutil.rmtree(Layout(own.root).uri("ingest/test"))
    finished_run(own, "ingest/test", unlabelled)
    with pytest.raises(TrainingError, match="1 of 3 images have no label") as caught:
        attack.plan(own)
    assert caught.value.item == "id-1"


@pytest.mark.parametrize(
    "change",
    [
        {"l2": 1.0},
        {"dissimilarity": None},
        {"dissimilarity": None, "linf": 7.9},
        {"dissimilarity": None, "linf": 8, "space": "standardized"},
        {"dissimilarity": None, "linf": 8.0, "budget": "dataset_mean"},
    ],
)
def test_refuses_budgets_that_contradict_themselves(change):
    with pytest.raises(ValueError):
        NamedAttack.model_validate({**PLAIN, **change})
