"""The resident memory of this process, as the kernel counts it."""

import re
import resource
import sys
from pathlib import Path


class Growth:
    """Growth of the resident set since the object was made."""

    def __init__(self) -> None:
        # On Linux the high-water mark can be set back; elsewhere it is what the process ever had, and growth below an
        # earlier peak is missed.
        self._linux = Path("/proc/self/clear_refs").exists()
        if self._linux:
            Path("/proc/self/clear_refs").write_text("5")
        self.start = self._read("VmRSS")

    def bytes(self) -> float:
        """At its highest."""
        return max(0.0, self._read("VmHWM") - self.start)

    def kept(self) -> float:
        """By now; negative where memory was given back (on Linux, otherwise as at its highest)."""
        return self._read("VmRSS") - self.start

    def _read(self, field: str) -> float:
        if self._linux:
            match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
            if match is not None:
                return float(match[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else peak * 1024)
