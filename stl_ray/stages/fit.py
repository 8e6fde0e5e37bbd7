"""fit: clean training shards -> the stratified space, with its learning curves.

First the router (autoencoder, latents, clusters) as one task, then all dictionaries side by side, a task each. What is
finished is kept under fit/, so that a fit that was killed goes on with what is missing.
"""

from collections.abc import Callable
from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.csc import Dictionary, learn_dictionary
from stl_ray.errors import StlRayError
from stl_ray.images import decode, to_tensor
from stl_ray.space import Router, thumbnails
from stl_ray.space.storage import router_arrays, router_from
from stl_ray.stages.board import make_board, watch
from stl_ray.stages.inputs import dataset_of
from stl_ray.stages.progress import JobProgress
from stl_ray.stages.records import STORED_PIXELS, pixels_of, rows_at
from stl_ray.stages.session import require_places
from stl_ray.store import Layout, Storage, load_artifact, require_same, save_artifact
from stl_ray.store.filesystem import to_json
from stl_ray.training import AutoencoderEpoch, DictionarySample, assemble, fit_router, run_through, sample_dictionaries

_ROUTER, _DICTIONARY, _VERSION = "router", "dictionary", 1


def run(experiment: Experiment) -> dict[str, Any]:
    """Fit what is missing and write the space; the training images, counted.

    Raises:
        IncompleteRunError: if the training split was not ingested.
        RunIdentityError: if the folder holds a fit of other settings or images.
        TrainingError: if there are too few images for the autoencoder, a cluster or a dictionary.
    """
    layout, config = Layout(experiment.root), experiment.fit
    dataset = dataset_of(experiment.root, layout.ingested("train"))
    identity = {
        "fit": config.model_dump(mode="json"),
        "seed": experiment.seed,
        "dataset": dataset.digest,
        "stl_ray": __version__,
    }
    storage = Storage.open(experiment.root).below(Layout.fit)
    if not storage.create("identity.json", to_json(identity)):
        require_same(storage.read_json("identity.json"), identity, storage.root)
    require_places(1, cpus=experiment.ray.cpus_per_actor, gpus=0, key="ray.cpus_per_actor")
    sizes = config.dictionary
    work = dataset.rows * config.autoencoder.epochs + (config.clusters + 1) * sizes.images * sizes.iterations
    with JobProgress("fit", work) as progress:
        board = make_board()
        _run_all([_remote(experiment, _fit_router).remote(experiment, board)], board, progress)
        router, router_curve = _load_router(storage)
        samples = sample_dictionaries(router.clusters.labels, sizes, clusters=config.clusters, seed=experiment.seed)
        tasks = [_remote(experiment, _fit_dictionary).remote(experiment, sample, board) for sample in samples]
        _run_all(tasks, board, progress)
        progress.complete()
    dictionaries, curves = {}, {}
    for sample in samples:
        dictionaries[sample.name], curves[sample.name] = _load_dictionary(storage, sample.name)
    first = decode(rows_at(dataset, [0])[0]["image"]["bytes"], max_pixels=STORED_PIXELS)
    # Always: a space that is there may be of a fit that was removed; the same fit gives the same bytes.
    space = assemble(router, dictionaries, resolution=first.shape[0], provenance=identity)
    space.save(layout.uri(Layout.space))
    clusters = {"sizes": router.clusters.sizes}
    record = {"autoencoder": router_curve, "dictionaries": curves, "clusters": clusters}
    Storage.open(experiment.root).write_json(Layout.curves, record)
    return {"images": dataset.rows}


def _run_all(tasks: list[Any], board: Any, progress: JobProgress) -> None:
    watch(board, progress, lambda: len(ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]) == len(tasks))
    try:
        ray.get(tasks)
    except RayTaskError as error:
        # What went wrong, without the worker's stack, where it is an error of ours.
        raise (error.cause if isinstance(error.cause, StlRayError) else error) from None


def _remote(experiment: Experiment, function: Callable[..., None]) -> Any:
    return ray.remote(num_cpus=experiment.ray.cpus_per_actor)(function)


def _fit_router(experiment: Experiment, board: Any) -> None:
    storage = Storage.open(experiment.root).below(Layout.fit)
    if storage.exists(f"{_ROUTER}.json"):
        return
    torch.set_num_threads(experiment.ray.cpus_per_actor)
    dataset = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
    small, ids = [], []
    for table in dataset.tables():
        small += [thumbnails(to_tensor([image])) for image in pixels_of(table)]
        ids += table.column("id").to_pylist()
    curve: list[dict[str, float]] = []

    def report(epoch: AutoencoderEpoch) -> None:
        curve.append(epoch.row())
        board.post.remote(len(ids), f"autoencoder epoch {epoch.epoch}: loss {epoch.validation_loss:.4f}")

    router = run_through(fit_router(torch.cat(small), ids, experiment.fit, seed=experiment.seed), report)
    record = {"neighbours": router.neighbours, "curve": curve}
    save_artifact(str(storage.root), _ROUTER, _VERSION, router_arrays(router), record)


def _load_router(storage: Storage) -> tuple[Router, list[dict[str, float]]]:
    artifact = load_artifact(str(storage.root), _ROUTER, _VERSION)
    return router_from(artifact.arrays, artifact.meta["neighbours"]), artifact.meta["curve"]


def _fit_dictionary(experiment: Experiment, sample: DictionarySample, board: Any) -> None:
    storage = Storage.open(experiment.root).below(Layout.fit).below(sample.name)
    if storage.exists(f"{_DICTIONARY}.json"):
        return
    torch.set_num_threads(experiment.ray.cpus_per_actor)
    dataset = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
    images, holdout = (
        to_tensor([decode(row["image"]["bytes"], max_pixels=STORED_PIXELS) for row in rows_at(dataset, places)])
        for places in (sample.learn, sample.holdout)
    )
    curve = []
    config = experiment.fit.dictionary
    for step in learn_dictionary(images, config, seed=experiment.seed, name=sample.name, holdout=holdout):
        curve.append(
            {
                "iteration": step.iteration,
                "objective": step.objective,
                "holdout_objective": step.holdout_objective,
                "sparsity": step.sparsity,
                "psnr": step.psnr,
            }
        )
        board.post.remote(len(images), f"{sample.name} iteration {step.iteration}: {step.holdout_objective:.3f}")
    learned = step.dictionary
    record = {"lmbda": learned.lmbda, "norm": learned.norm, "curve": curve, "images": len(images)}
    save_artifact(str(storage.root), _DICTIONARY, _VERSION, {"filters": learned.filters.numpy()}, record)


def _load_dictionary(storage: Storage, name: str) -> tuple[Dictionary, list[dict[str, float]]]:
    artifact = load_artifact(str(storage.below(name).root), _DICTIONARY, _VERSION)
    meta = artifact.meta
    return Dictionary(torch.from_numpy(artifact.arrays["filters"].copy()), meta["lmbda"], meta["norm"]), meta["curve"]
