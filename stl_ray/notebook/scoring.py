"""Every defense on clean images and every adversarial set, scored as the job `evaluate` does."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from stl_ray.evaluation import PREDICTIONS_SCHEMA, attack_summaries, judged, score
from stl_ray.evaluation.batches import Pixels, in_order
from stl_ray.images import to_tensor
from stl_ray.notebook.adversarial import Adversarial
from stl_ray.notebook.crafting import craft
from stl_ray.notebook.model import warn_of
from stl_ray.notebook.progress import Advance, progress_bar
from stl_ray.notebook.result import Evaluation
from stl_ray.notebook.session import Session
from stl_ray.notebook.tiers import Attacked, under_attack, work_of_tiers
from stl_ray.store.layout import CLEAN


def evaluate(
    model: object,
    images: object,
    labels: object,
    *,
    defenses: Iterable[object] = (),
    attacks: Iterable[object] = (),
    tiers: object = None,
    sanity: Literal["quick", "full"] = "quick",
    training: object = None,
    ids: Iterable[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """What defenses are worth in front of a model, in this process: the figures of the jobs to the last image.

    Every defense, and none, is scored on the clean images and on every set; with `tiers` it then meets attacks that know of
    it. An accuracy on the sets of `attacks` alone is no claim of robustness; the worst case of the tiers is one, where no
    check is raised. An image's predictions depend on the image, its id and the seed, not on the others.

    Args:
        model: a torch module on [0, 1] images in eval mode, a `stl_ray.models.Classifier`, or any `Victim`. It is behind every
            defense as it is; nothing of it is changed.
        images: RGB, uint8 or floats in [0, 1]: a tensor or array (N, 3, H, W) or (N, H, W, 3), or an iterable of images of
            several sizes, tensors, arrays or Pillow's. Floats that are not on the 8-bit grid are rounded to it, with a warning.
        labels: N whole numbers (tensor, array or list), the classes of the images in the order of the model's logits.
        defenses: names ("jpeg"); entries as the YAML has them (`{"name": "stl", "defense": "stl", "options": {...}}`), where the
            option `space` is a `QuasiNaturalSpace`, or the path of one, of an experiment, or of an authors' .npy; or objects
            (`stl_ray.defenses.Defense`), by themselves or as the `defense` of an entry.
        attacks: entries of `attack.sets`, such as `{"name": "pgd-8", "attack": "pgd", "linf": 8}`; `victim` may name one of the
            defenses.
        tiers: the section `evaluate.tiers`, such as `{"budget": {"linf": 8}}`, or `{}` for its defaults; None: no such attack.
        sanity: level of the checks of the tiers, as `evaluate.sanity`.
        training: (images, labels) or (images, labels, ids), as those three; a defense that refuses images has its detector
            calibrated on some of them, and cannot do without.
        ids: N different texts, from which random numbers derive; None: the positions, "0", "1", ...
        seed: the run seed.
        progress: whether to show a bar on a terminal or in a notebook.

    Raises:
        TensorError: images, labels or ids have another shape, type or range; the model is none, is in training mode, or its
            answers cannot be used.
        GradientError: the model, or the defense of a victim, has no gradient that an attack could follow, and one needs it.
        ConfigError: a defense or an attack is unknown, has a wrong option or budget, or needs what only an experiment has:
            training images to fit a defense to, another classifier, a substitute; or `training` is missing.
        TrainingError: `training` does not do for a detector.
        ArtifactError, DictionaryError: a space cannot be read.
    """
    session = Session.of(
        model, images, labels, ids, defenses=defenses, attacks=attacks, tiers=tiers, sanity=sanity, training=training,
        seed=seed,
    )  # fmt: skip
    warn_of(session.remarks)
    count, sets = len(session.images.ids), len(session.asked.attacks)
    work = count * (sets + len(session.defended) * (1 + sets)) + work_of_tiers(session)
    with progress_bar(work, progress) as advance:
        adversarial = craft(session, advance)
        predictions = _predictions(
            session,
            {CLEAN: session.images.pixels, **{name: item.pixels for name, item in adversarial.items()}},
            advance,
        )
        attacked = under_attack(session, predictions, adversarial, advance)
    return Evaluation(
        scores=_scores(session, predictions, {name: item.table for name, item in adversarial.items()}, attacked),
        predictions=predictions,
        adversarial=Adversarial(adversarial, session.remarks),
        verdicts={name: item.verdicts for name, item in attacked.defenses.items()} if attacked else {},
        remarks=session.remarks,
    )


def _predictions(
    session: Session, sets: Mapping[str, Sequence[Pixels]], advance: Advance
) -> dict[tuple[str, str], pa.Table]:
    """The predictions of every defense on every set, by (defense, set)."""
    clean, everyone = session.images.pixels, range(len(session.images.ids))
    tables = {}
    for defense, defended in session.defended.items():
        model = defended.victim("none")
        for name, pixels in sets.items():
            label = f"{defense} on {name}"
            advance(label, 0)
            rows: dict[int, dict[str, Any]] = {}
            for places, images, labels, ids in session.batches(pixels, everyone):
                originals = to_tensor([clean[place] for place in places]).to(images.device)
                found = judged({"vanilla": model, "retrained": model}, images, labels.tolist(), ids, originals)
                rows |= dict(zip(places, found, strict=True))
                advance(label, len(places))
            tables[defense, name] = in_order(rows, PREDICTIONS_SCHEMA)
    return tables


def _scores(
    session: Session,
    predictions: Mapping[tuple[str, str], pa.Table],
    adversarial: Mapping[str, pa.Table],
    attacked: Attacked | None,
) -> dict[str, Any]:
    """The content of scores.json."""
    scores = score(
        predictions,
        classifier=session.model.name,
        architecture=session.model.name,
        class_names=session.model.class_names,
        detecting=[name for name, item in session.defended.items() if item.detector is not None],
        crafted={item.name: item.victim for item in session.asked.attacks},
    )
    scores["attacks"] = attack_summaries(adversarial)
    scores["tiers"] = attacked.scores(session, scores["chance"]) if attacked else None
    return scores
