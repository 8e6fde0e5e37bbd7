"""H14 and H15: whether there are enough images, and whether it is on record what was attacked."""

from collections.abc import Mapping
from typing import Any

from stl_ray.evaluation.sanity.flags import Flag, flag
from stl_ray.statistics import wilson

IMAGES = 1000
"""Images that a claim takes; the 95 % interval is then at most 6.2 points wide."""

PROVENANCE = ("attacks", "budget", "classifier", "defense", "ids_sha256", "seed", "version")
"""What must be known of a row."""


def statistics(scores: Mapping[str, Any], ids: frozenset[str]) -> Flag:
    """H14: a thousand images or more, all of them attacked, and the same for every defense.

    Args:
        scores: of the defense, as `cascade_scores` returns them.
        ids: of the digests of the images, one for each defense.
    """
    title = "enough images, the same for all"
    images = scores["images"]
    half = wilson(images // 2, images)
    late = sum(step["out_of_time"] for step in scores["steps"])
    finding = f"{images} images; at one half the interval is {half.high - half.low:.3f} wide"
    finding += f"; {late} were not attacked in time" if late else ""
    finding += "; not the images of the other defenses" if len(ids) > 1 else ""
    value = max(IMAGES / images, 2 * float(late > 0), 2 * float(len(ids) > 1))
    return flag("H14", title, finding, value, 1.0)


def provenance(record: Mapping[str, Any]) -> Flag:
    """H15: attacks, budget, classifier, defense, images, seed and version are on record."""
    title = "it is on record what was attacked"
    missing = [name for name in PROVENANCE if record.get(name) in (None, "", [], {})]
    finding = f"missing: {', '.join(missing)}" if missing else f"{', '.join(PROVENANCE)} are in the row"
    return flag("H15", title, finding, len(missing), 0)
