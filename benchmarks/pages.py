"""What the pages about learning share: the line that says where they were measured, and files."""

import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.tables import _cpu

PACKAGES = ("torch", "numpy", "sporco", "pyFFTW")


def measured_on(seconds: float) -> str:
    """The machine, the versions, and how long it took."""
    versions = {"Python": platform.python_version(), "stl-ray": version("stl-ray")}
    versions |= {name: version(name) for name in PACKAGES}
    return f"{_cpu()}; {', '.join(f'{name} {number}' for name, number in versions.items())}; took {seconds:.0f} s."


def figure_file(output: Path | None) -> Path | None:
    """Beside the page."""
    return None if output is None else output.with_suffix(".png")


def publish(page: str, figure: bytes, output: Path | None) -> None:
    """Print the page, and write it with its figure where asked."""
    print(page)
    file = figure_file(output)
    if output is not None and file is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
        file.write_bytes(figure)
