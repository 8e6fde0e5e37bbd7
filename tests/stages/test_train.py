"""What a classifier's artifact says of its making; with given weights, so that nothing is trained and no Ray starts."""

import json

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from stl_ray.csc import Dictionary
from stl_ray.images import encode_png, image_schema
from stl_ray.models import build_classifier
from stl_ray.space import QuasiNaturalSpace
from stl_ray.stages import train
from stl_ray.stages.inputs import dataset_of, make_defenses, run_of, with_solver
from stl_ray.stages.project import identity_of
from stl_ray.stages.purify import purify_table
from stl_ray.stages.records import plan_parts
from stl_ray.store import Layout, PlannedShard


def _finished(root, folder, plan, identity, tables):
    run = run_of(root, folder)
    run.start(plan, identity=identity, environment={})
    for shard, table in zip(plan, tables, strict=True):
        run.publish(shard, table, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)


def test_identity_a_classifier_names_the_defense_and_space_that_it_was_trained_on(experiment_of, tmp_path):
    save_file(build_classifier("small_cnn", ["a", "b"], seed=0).backbone.state_dict(), tmp_path / "weights.safetensors")
    defenses = [{"name": "mine", "defense": "stl_cluster"}, {"name": "jpeg", "defense": "jpeg"}]
    training = {"epochs": 0, "weights": str(tmp_path / "weights.safetensors")}
    experiment = experiment_of(defenses=defenses, train=training, stl={"method": "admm"})
    root, layout = experiment.root, Layout(experiment.root)

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    rows = [
        {"id": str(number), "image": {"bytes": encode_png(image), "path": None}, "label": number % 2}
        for number, image in enumerate(images)
    ]
    clean = pa.Table.from_pylist(rows, schema=image_schema("image", ["a", "b"]))
    _finished(root, layout.ingested("train"), [PlannedShard(0, {}, 4, "images")], {}, [clean])
    filters = torch.nn.functional.normalize(torch.randn(4, 75, generator=torch.Generator().manual_seed(0)), dim=1)
    space = QuasiNaturalSpace.from_dictionary(Dictionary(filters.reshape(4, 3, 5, 5), 0.2))
    space.save(layout.uri(layout.space))
    dataset = dataset_of(root, layout.ingested("train"))
    made = make_defenses(with_solver(experiment))
    for name, defense in made.items():
        purified = purify_table(defense, clean, exclude_self=True, device="cpu").table
        identity = identity_of(defense, dataset, "train")
        _finished(root, layout.projected(name, "train"), plan_parts(dataset), identity, [purified])

    train.run(experiment)
    found = {
        name: json.loads((tmp_path / "root" / layout.classifier(name) / "model.json").read_text())["meta"]["defense"]
        for name in ("vanilla", "mine", "jpeg")
    }
    assert found == {"vanilla": None, "mine": made["mine"].identity(), "jpeg": made["jpeg"].identity()}
    assert found["mine"]["space"] == space.digest
