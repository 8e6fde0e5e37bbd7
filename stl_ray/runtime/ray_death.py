"""Why a process of a local Ray died as it started: its logs know, while Ray says that it timed out."""

import os
import re
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir

_PROCESSES = ("gcs_server", "raylet")
# [date, severity (C: it ends the process), ids] (process) file:line: words, at times after a notice that Ray has a bug
_LAST_WORDS = re.compile(r"^\[[^]]* C \d+ \d+\] \(\w+\) \S+ +(?:.*Check failed: )?(.*)$", re.MULTILINE)


def why_it_died() -> str | None:
    """Which process of the Ray that this process started last died, of what, and where its logs are; None if none did."""
    folder = Path(get_default_ray_temp_dir())  # type: ignore[no-untyped-call]
    session = max(folder.glob(f"session_*_{os.getpid()}"), default=Path())
    for process in _PROCESSES:
        log = session / "logs" / f"{process}.err"
        words = _LAST_WORDS.search(log.read_text(errors="replace")) if log.exists() else None
        if words:
            return f"{process} died: {words[1].strip()}; its log is {log}"
    return None
