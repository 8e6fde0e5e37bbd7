"""STORAGE: where an experiment's files lie and how they are published so that nothing is lost or doubled.

filesystem   bytes under a root, written atomically, or created once
files        the interface of every kind of storage
local, s3, arrow   the kinds of storage: disks, S3 by boto3, every other scheme of pyarrow
lease        one driver of a run at a time
layout       every path of an experiment
spaces       the spaces at a place
authors_file the authors' published dictionaries, .npy files
artifacts    safetensors + JSON with a digest (spaces, classifiers)
identity     results of different identities are never mixed
shards       Parquet tables as bytes
runs, plan, receipts   the run protocol: identity, plan, parts, receipts, manifest
unique       whether every id comes once
audit        a finished run recounted from its bytes
datasets     reading a finished run through its manifest

Knows nothing of torch or Ray.
"""

from stl_ray.store.artifacts import Artifact, artifact_kind, load_artifact, save_artifact
from stl_ray.store.audit import runs_below, verify
from stl_ray.store.datasets import Dataset
from stl_ray.store.files import FileInfo
from stl_ray.store.filesystem import Storage
from stl_ray.store.identity import require_planned, require_same
from stl_ray.store.layout import Layout
from stl_ray.store.plan import Plan, PlannedShard
from stl_ray.store.receipts import QuarantinedRow, Receipt
from stl_ray.store.runs import Run
from stl_ray.store.spaces import find_space, spaces_at

__all__ = [
    "Artifact",
    "Dataset",
    "FileInfo",
    "Layout",
    "Plan",
    "PlannedShard",
    "QuarantinedRow",
    "Receipt",
    "Run",
    "Storage",
    "artifact_kind",
    "find_space",
    "load_artifact",
    "require_planned",
    "require_same",
    "runs_below",
    "save_artifact",
    "spaces_at",
    "verify",
]
