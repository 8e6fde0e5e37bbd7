"""How fast and how exact T(x) is on a GPU, beside what its memory and its matrix units can do.

    python -m benchmarks.projection.gpu --output benchmarks/results/projection-gpu.md

Run it from the repository's root on an idle GPU; `--help` says the rest. It needs neither Ray nor an installed stl-ray.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.version
from torch import Tensor

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, Images, default_data, load_images
from benchmarks.common.pages import command_line, publish
from stl_ray.csc import ACCURACIES, Accuracy, Codes, solve_cbpdn, split_bands
from stl_ray.csc.admm import solve as solve_by_admm
from stl_ray.csc.fused import images_at_once, solve_in_form

TIER = "default"

_EXAMPLES = """
what it does, for every size, in one process:
  times       every form of the solver projects the same batch in turns (split, solve, sum); medians of the turns
  floor       passes over the K maps at the copy bandwidth, or the products at the fp16 rate, whichever takes longer
  accuracy    the same outputs of the first images against the exact tier (certified duality gap <= 1e-5)
  memory      the most that was allocated, less what was before, per image of the batch
  kernels     where the time of the spatial form goes

examples:
  python -m benchmarks.projection.gpu --images data --output gpu.md
      data/cifar10/test-*.parquet, data/imagenet10/val-*.parquet and data/reference/dictionaries, or any pictures
  python -m benchmarks.projection.gpu --smoke
      tiny images on the CPU through Triton's interpreter: shows that it runs, and no time of any use
"""


@dataclass(frozen=True)
class Form:
    """One way to solve.

    Attributes:
        name: of the form.
        units: passes over the K float32 maps in one iteration, as `stl_ray.csc.fused.forms` counts them.
        products: whether D and its adjoint are matrix products.
    """

    name: str
    units: float
    products: bool

    def solve(self, images: Images, high: Tensor, accuracy: Accuracy) -> Codes:
        """Codes of the high band (B, C, H, W)."""
        if self.name == "admm":
            return solve_by_admm(high, images.dictionary, LMBDA, accuracy, None)
        return solve_in_form(self.name, high, images.dictionary, LMBDA, accuracy, None)


FORMS = [
    Form("admm", 21, False),
    Form("pointwise", 15, False),
    Form("spatial", 3, True),
    Form("spatial-half", 2, True),
]


@dataclass(frozen=True)
class Ceilings:
    """What the device does at best, measured here: bytes (read and written) and operations per second."""

    copy: float
    products: dict[str, float]


@dataclass(frozen=True)
class Row:
    """What one form did at one size."""

    form: Form
    seconds: list[float]
    images: int
    iterations: Tensor
    floor: float
    image_errors: list[float]
    high_errors: list[float]
    bytes: float


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.smoke:
        # Read when triton is first imported, which nothing has done yet.
        os.environ["TRITON_INTERPRET"] = "1"
        options.images, options.sizes, options.count, options.turns = None, [8], 2, 1
    elif not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --smoke runs tiny images on the CPU")
    device = torch.device("cpu" if options.smoke else "cuda")
    ceilings = _ceilings(device)
    page = [*_heading(device, given, ceilings)]
    for size in options.sizes:
        print(f"{size} px", file=sys.stderr, flush=True)
        page += _section(size, options, device, ceilings)
    text = "\n".join(page) + "\n"
    publish(text, options.output)
    return 0


def _section(size: int, options: argparse.Namespace, device: torch.device, ceilings: Ceilings) -> list[str]:
    images = load_images(size, options.count, options.images, options.dictionary)
    some = images.pixels.to(device)
    batch_size = options.count if options.smoke else images_at_once(size, size, device)
    batch = some.repeat(-(-batch_size // len(some)), 1, 1, 1)[:batch_size]
    accuracy = (
        replace(ACCURACIES[TIER], splitting=replace(ACCURACIES[TIER].splitting, max_iterations=2))
        if options.smoke
        else ACCURACIES[TIER]
    )
    # Also compiles what the turns run.
    allocated = {form.name: _allocated(partial(_project, form, images, batch, accuracy), device) for form in FORMS}
    seconds: dict[str, list[float]] = {form.name: [] for form in FORMS}
    for _ in range(options.turns):
        for form in FORMS:
            seconds[form.name].append(_seconds(partial(_project, form, images, batch, accuracy), device))
    low, high = split_bands(some)
    # Hundreds of iterations in Triton's interpreter would take a minute.
    method: Literal["admm", "fused"] = "admm" if options.smoke else "fused"
    exact = solve_cbpdn(high, images.dictionary, LMBDA, method=method, accuracy="exact")
    rows = []
    for form in FORMS:
        codes = form.solve(images, high, accuracy)
        errors = (codes.synthesis - exact.synthesis).flatten(1).norm(dim=1)
        of_image = errors / (low + exact.synthesis).flatten(1).norm(dim=1)
        of_high = errors / exact.synthesis.flatten(1).norm(dim=1)
        iterations = codes.iterations.double()
        floor = _floor(form, images, size, ceilings) * float(iterations.mean())
        rows.append(
            Row(form, seconds[form.name], batch_size, iterations, floor, of_image.tolist(), of_high.tolist(),
                allocated[form.name] / batch_size)
        )  # fmt: skip
    certified = f"{int((exact.gap <= 1e-5).sum())} of {len(some)} optima certified."
    kernels = [] if options.smoke else _kernels(images, batch, accuracy)
    return [
        f"## {size} pixels",
        "",
        f"{batch_size} images at once, {len(some)} of them different: {images.source}. Dictionary: "
        f"{images.dictionary_source}. {certified}",
        "",
        *_table(rows),
        "",
        *kernels,
    ]


def _project(form: Form, images: Images, batch: Tensor, accuracy: Accuracy) -> Tensor:
    low, high = split_bands(batch)
    return (low + form.solve(images, high, accuracy).synthesis).clamp_(0, 1)


def _floor(form: Form, images: Images, size: int, ceilings: Ceilings) -> float:
    """Seconds that one iteration takes one image at least."""
    count, channels, side, _ = images.dictionary.filters.shape
    memory = form.units * 4 * count * size**2 / ceilings.copy
    if not form.products:
        return memory
    outputs = max(16, 1 << (channels * side - 1).bit_length())
    operations = 2 * count * side * (channels * side + outputs) * size**2
    return max(memory, operations / ceilings.products["fp16"])


def _ceilings(device: torch.device) -> Ceilings:
    source = torch.rand(2**18 if device.type == "cpu" else 2**30, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / _median(lambda: target.copy_(source), device)
    side, rates = 64 if device.type == "cpu" else 8192, {}
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("tf32", torch.float32)):
        left, right = (torch.randn((side, side), device=device).to(dtype) for _ in range(2))
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        rates[name] = 2 * side**3 / _median(partial(torch.matmul, left, right), device)
        torch.backends.cuda.matmul.allow_tf32 = before
    return Ceilings(copy, rates)


def _median(call: Callable[[], object], device: torch.device) -> float:
    call()
    return statistics.median(_seconds(call, device) for _ in range(10))


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _allocated(call: Callable[[], object], device: torch.device) -> float:
    """The most bytes that a call has allocated at a time; not a number where that is not counted."""
    if device.type == "cpu":
        call()
        return float("nan")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _kernels(images: Images, batch: Tensor, accuracy: Accuracy) -> list[str]:
    """The kernels of one solve in the spatial form that take the longest."""
    high = split_bands(batch)[1]
    spatial = next(form for form in FORMS if form.name == "spatial")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        iterations = int(spatial.solve(images, high, accuracy).iterations.sum())
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)[:10]
    lines = ["| Kernel of the spatial form | Launches | ns per image and iteration |", "| --- | ---: | ---: |"]
    return [
        *lines,
        *(f"| `{e.key[:60]}` | {e.count} | {1e3 * e.self_device_time_total / iterations:.0f} |" for e in events),
        "",
    ]


def _table(rows: list[Row]) -> list[str]:
    lines = [
        "| Form | Images/s | Iterations, median / most | Floor, images/s | Share of it | T error, median / worst | "
        "High band's | MB per image |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        took = statistics.median(row.seconds) / row.images
        errors = (f"{statistics.median(e):.1e} / {max(e):.1e}" for e in (row.image_errors, row.high_errors))
        lines.append(
            f"| {row.form.name} | {1 / took:,.1f} | {row.iterations.median():.0f} / {row.iterations.max():.0f} | "
            f"{1 / row.floor:,.1f} | {row.floor / took:.2f} | {' | '.join(errors)} | {row.bytes / 1e6:.1f} |"
        )
    return lines


def _heading(device: torch.device, given: list[str], ceilings: Ceilings) -> list[str]:
    import triton

    name = "Triton's interpreter, no times of any use" if device.type == "cpu" else torch.cuda.get_device_name(device)
    rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in ceilings.products.items())
    return [
        f"# T(x) on a GPU: {name}",
        "",
        f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"triton {triton.__version__}. Tier: {TIER}, lambda {LMBDA:g}.",
        "",
        "    " + command_line("benchmarks.projection.gpu", given),
        "",
        f"Measured in this run: copy {ceilings.copy / 1e12:.3g} TB/s, read and written; products of 8192 x 8192, "
        f"Tflop/s: {rates}. A form's floor is its passes over the K maps at that bandwidth (or its products at the "
        "fp16 rate), times the mean iterations.",
        "",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.projection.gpu", __doc__, _EXAMPLES)
    parser.add_argument("--smoke", action="store_true", help="2 images of 8 pixels on the CPU")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 224], metavar="PIXELS")
    parser.add_argument("--count", type=int, default=16, metavar="N", help="different images, half of them noisy (16)")
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="times that every form is timed (7)")
    parser.add_argument(
        "--images", type=Path, default=default_data(), metavar="FOLDER",
        help="default $STL_RAY_DATA, then ../shared/data, then photographs of scikit-image",
    )  # fmt: skip
    parser.add_argument(
        "--dictionary", type=Path, metavar="FILE",
        help="a .npy file like the authors'; default FOLDER/reference/dictionaries, then patches of the images",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
