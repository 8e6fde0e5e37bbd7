"""The figures of `stl_ray.evaluate` beside those of the jobs, on the same images, ids and seed."""

import pyarrow as pa
import pytest
import torch

import stl_ray
from stl_ray.defenses import make_defense
from stl_ray.evaluation import score
from stl_ray.models import load
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.batches import exact_pixels_of, pixels_of
from stl_ray.pipeline.evaluate import adaptive
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.space import QuasiNaturalSpace
from stl_ray.store import Layout


@pytest.fixture
def alone(experiment):
    """The experiment without a substitute, which only a root has; one of its sets through a defense."""
    near, far, finer = experiment.attack.sets
    victim = near.victim.model_copy(update={"defense": "stl_cluster"})
    sets = (near.model_copy(update={"victim": victim}), far, finer)
    kept = tuple(item for item in experiment.evaluate.tiers.attacks if item.tier in ("T4", "T5"))
    tiers = experiment.evaluate.tiers.model_copy(update={"attacks": kept, "substitute": None, "images": 3})
    changed = {
        "seed": 3,
        "attack": experiment.attack.model_copy(update={"sets": sets}),
        "evaluate": experiment.evaluate.model_copy(update={"tiers": tiers}),
        "defenses": (experiment.defenses[0], experiment.defenses[2]),
    }
    return with_solver(experiment.model_copy(update=changed))


def whole(experiment, folder: str) -> pa.Table:
    return pa.concat_tables(dataset_of(experiment.root, folder).tables())


def test_agrees_with_the_jobs_to_the_last_image(alone, run_here):
    layout = Layout(alone.root)
    run_here(attack.plan(alone), alone)
    run_here(evaluate.plan(alone), alone)
    run_here(adaptive.plan_tiers(alone), alone)
    run_here(adaptive.plan_checks(alone), alone)
    clean = whole(alone, layout.ingested("test"))
    space = QuasiNaturalSpace.load(layout.uri("given"))
    result = stl_ray.evaluate(
        load(layout.uri(layout.classifier("vanilla"))),
        pixels_of(clean),
        clean["label"].to_pylist(),
        defenses=[
            "jpeg",
            {
                "name": "stl_cluster",
                "defense": make_defense("stl_cluster", {}, {"space": space, "solver": alone.solver.method}),
            },
        ],
        attacks=alone.attack.sets,
        tiers=alone.evaluate.tiers,
        ids=clean["id"].to_pylist(),
        seed=alone.seed,
        progress=False,
    )
    for item in alone.attack.sets:
        stored, own = whole(alone, layout.attacked("vanilla", item.name)), result.adversarial[item.name]
        assert own.table.to_pylist() == stored.select(own.table.column_names).to_pylist()
        for mine, theirs in zip(own.pixels, exact_pixels_of(stored), strict=True):
            assert mine.dtype == theirs.dtype and (mine == theirs).all()
    predictions = {tuple(cell): whole(alone, run.folder) for (_, *cell), run in evaluate.cells_of(alone).items()}
    assert result.predictions == predictions
    for name, table in result.verdicts.items():
        assert table == whole(alone, layout.verdicts("vanilla", name))
    (context,) = adaptive.Context.all_of(alone, "cpu")
    crafted = {item.name: item.victim for item in alone.attack.sets}
    scores = score(
        predictions, classifier="small_cnn", architecture="small_cnn", class_names=["a", "b"], crafted=crafted
    )
    assert result.scores["cells"] == scores["cells"]
    assert result.scores["tiers"] == adaptive.stored_tier_scores(context, scores["chance"])
    assert result.remarks == ()


def test_invariant_an_image_alone_is_the_image_among_others(alone):
    layout = Layout(alone.root)
    clean = whole(alone, layout.ingested("test"))
    pixels, labels, ids = pixels_of(clean), clean["label"].to_pylist(), clean["id"].to_pylist()
    model = load(layout.uri(layout.classifier("vanilla")))
    odd = [image if number % 3 else image[:12] for number, image in enumerate(pixels)]  # two sizes

    def evaluated(chosen: list[int]):
        return stl_ray.evaluate(
            model,
            [torch.from_numpy(odd[number]).permute(2, 0, 1) for number in chosen],
            [labels[number] for number in chosen],
            defenses=["jpeg"],
            attacks=[{"name": "near", "attack": "pgd", "linf": 3, "options": {"steps": 2}}],
            ids=[ids[number] for number in chosen],
        )

    together, alone_, shuffled = evaluated(list(range(10))), evaluated([3]), evaluated([7, 3, 6, 1])
    for result, chosen in ((alone_, [3]), (shuffled, [7, 3, 6, 1])):
        for cell, table in result.predictions.items():
            assert table.to_pylist() == together.predictions[cell].take(chosen).to_pylist()
        assert result.adversarial["near"].table == together.adversarial["near"].table.take(chosen).combine_chunks()
