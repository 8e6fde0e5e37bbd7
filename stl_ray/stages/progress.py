"""Progress of a job: images done of all, images per second, quarantined, time left.

A bar on a terminal; elsewhere one line every ten seconds and one at the end.
"""

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0


class JobProgress:
    """Counts what is done; use as a context manager.

    Args:
        label: what is being done, such as "project".
        total: units to do, the ones that are done already included.
        unit: what is counted.
        done: units that were done before.
    """

    def __init__(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._before = done
        self.quarantined = 0
        self._note = ""
        self._start = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._over = threading.Event()

    def __enter__(self) -> "JobProgress":
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn(),
                console=self._console,
            )  # fmt: skip
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, text="")
            self._bar.start()
        else:
            threading.Thread(target=self._print_now_and_then, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.stop()
        else:
            self._print()

    def advance(self, units: int, *, quarantined: int = 0, note: str = "") -> None:
        """Count finished units; `note` is shown after them, such as the current loss."""
        self.done += units
        self.quarantined += quarantined
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=self._text())

    def complete(self) -> None:
        """Count what was planned and turned out not to be needed, such as epochs after an early stop."""
        self.advance(self.total - self.done)

    def _rate(self) -> float:
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def _text(self) -> str:
        parts = [f"{self.done}/{self.total} {self.unit}", f"{self._rate():.1f} {self.unit}/s"]
        if self.unit == "images":
            parts.append(f"{self.quarantined} quarantined")
        if self._note:
            parts.append(self._note)
        return ", ".join(parts)

    def _print_now_and_then(self) -> None:
        """By a clock of its own: a shard of large images may take minutes, and silence looks like a hang."""
        while not self._over.wait(LINE_EVERY_S):
            self._print()

    def _print(self) -> None:
        rate = self._rate()
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate > 0 and self.done < self.total else ""
        print(f"{self.label}: {self._text()}{left}", file=sys.stderr, flush=True)
