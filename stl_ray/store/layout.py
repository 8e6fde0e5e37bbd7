"""Every path of an experiment, relative to its root. Nobody else spells one.

experiment.json                 the resolved configuration of the last job that ended well
ingest/{train,test}/            clean image shards (a run)
fit/                            learning curves and the parts of an unfinished fit
space/                          the stratified space (an artifact)
project/DEFENSE-SPLIT/          purified shards (a run)
train/CLASSIFIER/               model artifact, metrics.jsonl, checkpoints
attack/SET/                     adversarial shards (a run)
evaluate/DEFENSE-on-SET/        predictions (a run); scores.json, gallery.parquet beside them
report/                         report.html, report.md, figures/
jobs/JOB.jsonl                  one line for each session of a job: times, versions
"""

from dataclasses import dataclass

CLEAN = "clean"
VANILLA = "vanilla"


@dataclass(frozen=True)
class Layout:
    """The paths below an experiment's root, and the root itself as a URI."""

    root: str

    experiment = "experiment.json"
    fit = "fit"
    curves = "fit/curves.json"
    space = "space"
    scores = "evaluate/scores.json"
    gallery = "evaluate/gallery.parquet"
    report = "report"

    def uri(self, path: str) -> str:
        """The full URI of a relative path."""
        return f"{self.root.rstrip('/')}/{path}"

    def ingested(self, split: str) -> str:
        """The clean image shards of a split."""
        return f"ingest/{split}"

    def projected(self, defense: str, split: str) -> str:
        """The shards of a split after a defense."""
        return f"project/{defense}-{split}"

    def classifier(self, name: str) -> str:
        """A classifier: `vanilla`, or the name of the defense that it was retrained for."""
        return f"train/{name if name == VANILLA else f'retrained-{name}'}"

    def attacked(self, attack_set: str) -> str:
        """The adversarial shards of an attack set."""
        return f"attack/{attack_set}"

    def predictions(self, defense: str, attack_set: str) -> str:
        """The predictions on an attack set (or `clean`) behind a defense (or `none`)."""
        return f"evaluate/{defense}-on-{attack_set}"

    def job_log(self, job: str) -> str:
        """The sessions of a job."""
        return f"jobs/{job}.jsonl"
