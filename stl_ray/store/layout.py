"""Every path of an experiment, relative to its root. No other file spells one.

experiment.json                 the resolved configuration of the last job that ended well
ingest/{train,test}/            clean image shards (a run)
fit/patches-KEY/                patches of the training images, of which libraries are made (a run)
fit/training-KEY/               metrics.jsonl and checkpoint of a network that a defense is fitted with
fit/thumbnails-KEY/             the training images as the autoencoder sees them (a run)
fit/autoencoder-KEY/            autoencoder artifact, metrics.jsonl, checkpoint
fit/latents-KEY/                latents of the thumbnails (a run)
fit/strata-KEY/                 the router, and the cluster of every training image (an artifact)
fit/samples-KEY/                the images that dictionaries are learned from (a run)
fit/dictionaries-KEY/NAME/      a dictionary, its learning curve and checkpoint
artifacts/KIND-KEY/             what a defense was fitted with, such as a library of patches (an artifact)
spaces/SPACE/                   a space that was fitted (an artifact), and its learning curves, curves.json
project/DEFENSE-SPLIT/          purified shards (a run)
train/CLASSIFIER/               model artifact, metrics.jsonl, TensorBoard's event file, checkpoint, best/
train/CLASSIFIER-for-DEFENSE/   the same of a classifier that was retrained for a defense
attack/CLASSIFIER/SET/          adversarial shards, crafted on a classifier (a run)
calibrations/CLASSIFIER/SET/    a set's common radius or universal vector (an artifact)
detectors/CLASSIFIER/DEFENSE/   what a detector was calibrated to with a classifier (an artifact); CLASSIFIER as below train/
evaluate/CLASSIFIER/            the block of a classifier: scores.json, gallery.parquet, and
  DEFENSE-on-SET/               predictions (a run)
  DEFENSE-drawn-on-SET/         further draws of a randomised defense (a run)
  DEFENSE-against-SET/          perturbations before and behind a defense (a run)
  DEFENSE-under-attack/         verdicts under the attacks of the tiers (a run)
  DEFENSE-under-checks/         the probes that the sanity checks read (a run)
report/                         report.html, report.md, figures/, tables/, robustbench/, predictions.parquet
jobs/JOB/                       one file for each session of a job: times, versions
status/JOB.json                 how far a job is, or how its last session ended

KEY is a digest of the settings that a step or an artifact depends on: spaces and defenses that agree on them share it.
"""

from dataclasses import dataclass

from stl_ray.uris import joined

CLEAN = "clean"

RETRAINED = "-for-"
"""Between the names of a classifier and of the defense that it was retrained for."""


@dataclass(frozen=True)
class Layout:
    """The paths below an experiment's root, and the root itself as a URI."""

    root: str

    experiment = "experiment.json"
    fit = "fit"
    spaces = "spaces"
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

    def classifier(self, name: str, defense: str | None = None) -> str:
        """A classifier that was trained here; with a defense, as it was retrained for it."""
        return f"train/{_network(name, defense)}"

    def detector(self, classifier: str, retrained_for: str | None, defense: str) -> str:
        """The calibration of a defense's detector with a classifier, as it was retrained for a defense, if for any."""
        return f"detectors/{_network(classifier, retrained_for)}/{defense}"

    @classmethod
    def step(cls, name: str, key: str) -> str:
        """A step of a fit, such as `latents`, by a digest of what it depends on."""
        return f"{cls.fit}/{name}-{key}"

    @classmethod
    def artifact(cls, kind: str, key: str) -> str:
        """What defenses are fitted with, by a digest of its recipe."""
        return f"artifacts/{kind}-{key}"

    @classmethod
    def space(cls, name: str) -> str:
        """A space that was fitted."""
        return f"{cls.spaces}/{name}"

    @classmethod
    def curves(cls, space: str) -> str:
        """The learning curves of a space, and its clusters."""
        return f"{cls.space(space)}/curves.json"

    def attacked(self, classifier: str, attack_set: str) -> str:
        """The adversarial shards of an attack set on a classifier."""
        return f"attack/{classifier}/{attack_set}"

    def calibration(self, classifier: str, attack_set: str) -> str:
        """The calibration of an attack set on a classifier."""
        return f"calibrations/{classifier}/{attack_set}"

    def block(self, classifier: str) -> str:
        """The scores of a classifier behind every defense, and what they are made of."""
        return f"evaluate/{classifier}"

    def scores(self, classifier: str) -> str:
        """The scores of a block."""
        return f"{self.block(classifier)}/scores.json"

    def gallery(self, classifier: str) -> str:
        """The images of a block that the report shows."""
        return f"{self.block(classifier)}/gallery.parquet"

    def predictions(self, classifier: str, defense: str, attack_set: str) -> str:
        """The predictions of a block on an attack set (or `clean`) behind a defense (or `none`)."""
        return f"{self.block(classifier)}/{defense}-on-{attack_set}"

    def verdicts(self, classifier: str, defense: str) -> str:
        """The verdicts of a block behind a defense, under the attacks of the tiers."""
        return f"{self.block(classifier)}/{defense}-under-attack"

    def probes(self, classifier: str, defense: str) -> str:
        """The probes of a block behind a defense, which its sanity checks read."""
        return f"{self.block(classifier)}/{defense}-under-checks"

    def draws(self, classifier: str, defense: str, attack_set: str) -> str:
        """Further draws of a randomised defense of a block on an attack set (or `clean`)."""
        return f"{self.block(classifier)}/{defense}-drawn-on-{attack_set}"

    def perturbations(self, classifier: str, defense: str, attack_set: str) -> str:
        """The perturbations of an attack set of a block before and behind a defense."""
        return f"{self.block(classifier)}/{defense}-against-{attack_set}"

    @classmethod
    def status(cls, job: str) -> str:
        """The status file of a job."""
        return f"{cls.statuses}/{job}.json"

    def sessions(self, job: str) -> str:
        """The folder of a job's sessions."""
        return f"jobs/{job}"


def _network(classifier: str, retrained_for: str | None) -> str:
    return classifier if retrained_for is None else f"{classifier}{RETRAINED}{retrained_for}"
