"""The rows of a training as TensorBoard's event file: `tensorboard --logdir ROOT/train`. Knows nothing of Ray."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EVENTS = "events.out.tfevents.0.stl-ray"
"""In a classifier's folder, beside metrics.jsonl."""


def event_file(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The event file of a training's epochs so far, a scalar for each figure.

    It is written anew after every epoch: object storage cannot append, and an epoch that is trained twice comes once.

    Args:
        rows: of `EpochMetrics.row`, in order.
    """
    # Imported where it is used: protobuf takes a while.
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder, write_to_disk=True)
        clock = 0.0
        for row in rows:
            clock += row["seconds"]
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, global_step=row["epoch"], walltime=clock)
        writer.close()
        (file,) = Path(folder).iterdir()
        return file.read_bytes()
