"""Progress of a job: images done of all, images per second, quarantined by reason, shards in flight, time left.

A bar on a terminal; elsewhere one line every ten seconds and one at the end. The same goes to the status file of the
job and to Ray's metrics, by a clock of its own: a shard of large images may take minutes, and silence looks like a hang.
"""

import json
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stl_ray.errors import StlRayError
from stl_ray.runtime.job_status import publish
from stl_ray.runtime.ray_metrics import RayMetrics
from stl_ray.text import plain

LINE_EVERY_S = 10.0
STATUS_EVERY_S = 5.0
_TICK_S = 1.0

# "Now" is the last half minute.
_RECENT_S = 30.0


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
        self.reasons: Counter[str] = Counter()
        self.in_flight: int | None = None
        self._usage: dict[str, tuple[float, float]] = {}
        self._note = ""
        self._start = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque([(self._start, 0)])  # when, and units of this session
        self._look: Callable[[], int] | None = None
        self._asking = threading.Lock()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._over = threading.Event()
        self._metrics = RayMetrics(label)

    def __enter__(self) -> "JobProgress":
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(),
                TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn(), console=self._console,
            )  # fmt: skip
            self._task = self._bar.add_task(plain(self.label), total=self.total, completed=self.done, text="")
            self._bar.start()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        # A question to Ray that outlived the session would join the cluster again, or start another one.
        with self._asking:
            self._look = None
        self._thread.join(_TICK_S)
        self.in_flight = None
        self._metrics.show({**self.snapshot(), "in_flight": 0, "rate_now": 0})
        self._publish()
        if self._bar is not None:
            self._bar.stop()
        else:
            self._print()

    @property
    def quarantined(self) -> int:
        """Images set aside in this session."""
        return sum(self.reasons.values())

    @property
    def busy(self) -> float | None:
        """The share of time in which workers with shards in hand computed, None before that is known."""
        span = sum(span for _, span in self._usage.values())
        return sum(busy for busy, _ in self._usage.values()) / span if span > 0 else None

    def advance(self, units: int, *, note: str = "") -> None:
        """Count finished units; `note` is shown after them, such as the current loss."""
        self.done += units
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=self._text())

    def shard(self, summary: Any) -> None:
        """Count a shard by its `shard_actor.ShardSummary`."""
        self.reasons.update(json.loads(summary.reasons))
        if summary.worker:
            self._usage[summary.worker] = (summary.busy, summary.span)
        self.advance(summary.rows)

    def follow(self, look: Callable[[], int]) -> None:
        """Call `look` now and then for the number of shards in flight."""
        self._look = look

    def resume(self, units: int) -> None:
        """Count units that an earlier session finished; rates are of this session alone."""
        self._before += units
        self.advance(units)

    def complete(self) -> None:
        """Count planned units that turned out not to be needed, such as epochs after an early stop."""
        self.resume(self.total - self.done)

    def snapshot(self) -> dict[str, Any]:
        """All figures, JSON-able; rates per second, None before this session has finished a unit."""
        finished = self.done - self._before
        overall = finished / max(time.monotonic() - self._start, 1e-9)
        (then, earlier), now = self._recent[0], time.monotonic()
        return {
            "label": self.label,
            "unit": self.unit,
            "done": self.done,
            "total": self.total,
            "rate": round(overall, 2) if finished > 0 else None,
            "rate_now": round((finished - earlier) / max(now - then, 1e-9), 2) if finished > 0 else None,
            "seconds_left": round((self.total - self.done) / overall, 1) if finished > 0 else None,
            "quarantined": dict(self.reasons),
            "in_flight": self.in_flight,
            "busy": None if self.busy is None else round(self.busy, 3),
            "note": self._note,
        }

    def _text(self) -> str:
        figures = self.snapshot()
        parts = [f"{self.done}/{self.total} {self.unit}"]
        if figures["rate"] is not None:
            parts.append(f"{figures['rate']:.1f} {self.unit}/s")
            if self.done < self.total and time.monotonic() - self._start > 2 * _RECENT_S:
                parts[-1] += f" ({figures['rate_now']:.1f} now)"
        if self.unit == "images":
            reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(self.reasons.items()))
            parts.append(f"{self.quarantined} quarantined" + (f" ({reasons})" if reasons else ""))
        if self.in_flight is not None:
            parts.append(f"{self.in_flight} shards in flight")
        if self.busy is not None:
            parts.append(f"computing {self.busy:.0%} of the time")
        if self._note:
            parts.append(self._note)
        return plain(", ".join(parts))

    def _tick(self) -> None:
        lines, files = LINE_EVERY_S, STATUS_EVERY_S
        next_line, next_file = self._start + lines, self._start
        while not self._over.wait(min(_TICK_S, lines, files)):
            now = time.monotonic()
            self._recent.append((now, self.done - self._before))
            while now - self._recent[0][0] > _RECENT_S:
                self._recent.popleft()
            self._metrics.show(self.snapshot())
            if now >= next_file:
                next_file = now + files
                self._ask()
                self._publish()
            if self._bar is not None:
                self._bar.update(self._task, text=self._text())
            elif now >= next_line:
                next_line = now + lines
                self._print()

    def _ask(self) -> None:
        with self._asking:
            if self._look is None:
                return
            try:
                self.in_flight = self._look()
            except Exception:  # noqa: BLE001
                self.in_flight = None  # the board's node may be gone; the work goes on

    def _publish(self) -> None:
        try:
            publish(self.snapshot())
        except StlRayError:
            return  # the workers report a storage that is away for a while

    def _print(self) -> None:
        if self.total == 0:
            return
        left = self.snapshot()["seconds_left"]
        ending = f", {left:.0f} s left" if left and self.done < self.total else ""
        print(f"{plain(self.label)}: {self._text()}{ending}", file=sys.stderr, flush=True)
