"""What a benchmark tells while it measures."""

import sys
import time


class Progress:
    """A line on stderr every ten seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last = 0.0

    def tell(self, message: str, now: bool = False) -> None:
        """Print the message with the time so far, unless a line was printed within ten seconds."""
        elapsed = time.monotonic() - self._start
        if now or elapsed - self._last >= 10:
            self._last = elapsed
            print(f"[{int(elapsed) // 60:2d}:{int(elapsed) % 60:02d}] {message}", file=sys.stderr, flush=True)
