"""What the pages share: command, machine, versions, tables and files."""

import platform
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "numpy", "sporco", "pyFFTW")


def measured_on(seconds: float, packages: Sequence[str] = PACKAGES) -> str:
    """The machine, the versions of Python, stl-ray and some packages, and how long it took."""
    return f"{machine(packages)}; took {seconds:.0f} s."


def machine(packages: Sequence[str] = PACKAGES) -> str:
    """The machine, and the versions of Python, stl-ray and some packages."""
    versions = {"Python": platform.python_version(), "stl-ray": version("stl-ray")}
    versions |= {name: version(name) for name in packages}
    return f"{processor()}; {', '.join(f'{name} {number}' for name, number in versions.items())}"


def commit() -> str:
    """The commit of the checkout, and whether files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def figure_file(output: Path | None) -> Path | None:
    """Beside the page."""
    return None if output is None else output.with_suffix(".png")


def publish(page: str, output: Path | None, figure: bytes | None = None) -> None:
    """Print the page, and write it with its figure where asked."""
    print(page)
    if output is not None:
        write(page, output)
        if figure is not None:
            output.with_suffix(".png").write_bytes(figure)


def write(page: str, output: Path) -> None:
    """Write the page, in a folder that need not be there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")


def command_line(module: str, given: list[str]) -> str:
    """The command line without the folders of this machine."""
    return shlex.join(["python", "-m", module, *(Path(a).name if "/" in a else a for a in given)])


def processor() -> str:
    """The model's name and the vector instructions that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = set(values.get("flags", "").split()) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    cores = sum(line.startswith("processor") for line in lines)
    name = f"{values.get('model name', platform.machine())} family {values.get('cpu family', '?')}"
    return f"{name}, {cores} cores, {' '.join(sorted(flags)) or 'no AVX2'}"


def three_digits(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right."""
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    rule = ["---" if name in ("Case", "Method", "Size") else "---:" for name in header]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
