"""Every path of an experiment, relative to its root. No other file spells one.

experiment.json                 the resolved configuration of the last job that ended well
ingest/{train,test}/            clean image shards (a run)
fit/thumbnails-KEY/             the training images as the autoencoder sees them (a run)
fit/autoencoder-KEY/            autoencoder artifact, metrics.jsonl, checkpoint
fit/latents-KEY/                latents of the thumbnails (a run)
fit/strata-KEY/                 the router, and the cluster of every training image (an artifact)
fit/samples-KEY/                the images that dictionaries are learned from (a run)
fit/dictionaries-KEY/NAME/      a dictionary, its learning curve and checkpoint
spaces/SPACE/                   a space that was fitted (an artifact), and its learning curves, curves.json
project/DEFENSE-SPLIT/          purified shards (a run)
train/CLASSIFIER/               model artifact, metrics.jsonl, TensorBoard's event file, checkpoint, best/
attack/SET/                     adversarial shards (a run)
calibrations/SET/               a set's common radius or universal vector (an artifact)
evaluate/DEFENSE-on-SET/        predictions (a run); scores.json, gallery.parquet beside them
evaluate/DEFENSE-under-attack/  verdicts under the attacks of the tiers (a run)
evaluate/DEFENSE-under-checks/  the probes that the sanity checks read (a run)
report/                         report.html, report.md, figures/
jobs/JOB/                       one file for each session of a job: times, versions
status/JOB.json                 how far a job is, or how its last session ended

KEY is a digest of the settings that the step depends on: spaces that agree on them share the step.
"""

from dataclasses import dataclass

from stl_ray.uris import joined

CLEAN = "clean"
VANILLA = "vanilla"


@dataclass(frozen=True)
class Layout:
    """The paths below an experiment's root, and the root itself as a URI."""

    root: str

    experiment = "experiment.json"
    fit = "fit"
    spaces = "spaces"
    scores = "evaluate/scores.json"
    gallery = "evaluate/gallery.parquet"
    report = "report"
    statuses = "status"

    def uri(self, path: str) -> str:
        """The full URI of a relative path."""
        return joined(self.root, path)

    def ingested(self, split: str) -> str:
        """The clean image shards of a split."""
        return f"ingest/{split}"

    def projected(self, defense: str, split: str) -> str:
        """The shards of a split after a defense."""
        return f"project/{defense}-{split}"

    def classifier(self, name: str) -> str:
        """A classifier: `vanilla`, or the name of the defense that it was retrained for."""
        return f"train/{name if name == VANILLA else f'retrained-{name}'}"

    @classmethod
    def step(cls, name: str, key: str) -> str:
        """A step of a fit, such as `latents`, by a digest of what it depends on."""
        return f"{cls.fit}/{name}-{key}"

    @classmethod
    def space(cls, name: str) -> str:
        """A space that was fitted."""
        return f"{cls.spaces}/{name}"

    @classmethod
    def curves(cls, space: str) -> str:
        """The learning curves of a space, and its clusters."""
        return f"{cls.space(space)}/curves.json"

    def attacked(self, attack_set: str) -> str:
        """The adversarial shards of an attack set."""
        return f"attack/{attack_set}"

    def calibration(self, attack_set: str) -> str:
        """The calibration of an attack set."""
        return f"calibrations/{attack_set}"

    def predictions(self, defense: str, attack_set: str) -> str:
        """The predictions on an attack set (or `clean`) behind a defense (or `none`)."""
        return f"evaluate/{defense}-on-{attack_set}"

    def verdicts(self, defense: str) -> str:
        """A defense's verdicts under the attacks of the tiers."""
        return f"evaluate/{defense}-under-attack"

    def probes(self, defense: str) -> str:
        """The probes of a defense, which its sanity checks read."""
        return f"evaluate/{defense}-under-checks"

    @classmethod
    def status(cls, job: str) -> str:
        """The status file of a job."""
        return f"{cls.statuses}/{job}.json"

    def sessions(self, job: str) -> str:
        """The folder of a job's sessions."""
        return f"jobs/{job}"
