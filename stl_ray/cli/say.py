"""What commands say, line by line. Nothing else in this room prints, so that no name or error gives a terminal orders."""

import io
import sys
from typing import TextIO

from stl_ray.text import plain


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print every text as one line, on standard output unless told otherwise."""
    for line in lines:
        print(plain(line), file=file, flush=True)


def say_any_letter() -> None:
    """Have the process's streams show letters that the terminal's encoding lacks as escapes, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
