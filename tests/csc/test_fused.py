import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stl_ray.csc import Dictionary, fused, solve_cbpdn
from stl_ray.errors import TensorError

CASES = Path(__file__).with_name("fused_cases.py")


def run_cases(marked: str, **environment: str) -> None:
    """Run the cases with these marks in a process of their own, whose output tells which one failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", marked, str(CASES)]
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]


def test_cases_under_the_interpreter() -> None:
    pytest.importorskip("triton")
    run_cases("not faults", TRITON_INTERPRET="1")


@pytest.mark.faults
def test_longer_cases_under_the_interpreter() -> None:
    pytest.importorskip("triton")
    run_cases("faults", TRITON_INTERPRET="1")


@pytest.mark.gpu
def test_cases_on_a_gpu() -> None:
    run_cases("")


@pytest.mark.parametrize("filters", [64, 128])
def test_kernels_compile_for_hopper(filters: int) -> None:
    """Without a GPU: products on the tensor cores, in float32 accumulators."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    from stl_ray.csc.fused import map_kernels as kernels

    def compiled(kernel: object, constants: dict[str, object], types: dict[str, str], **options: int) -> str:
        names = kernel.arg_names  # type: ignore[attr-defined]
        signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names}
        values = {(names.index(name),): value for name, value in constants.items()}
        source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=values)
        code: str = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
        return code

    whole = dict.fromkeys(("pixels", "width", "high", "wide", "blocks"), "i32")
    tile = {"SIDE": 8, "MAPS": filters, "BLOCK_K": 64}
    correlation = compiled(
        kernels._correlation_kernel,
        {"CHANNELS": 3, "ROWS": 192, "BLOCK_M": kernels.PIXELS, "BLOCK_R": kernels.TAPS, **tile},
        {**whole, **dict.fromkeys(("wrapped", "filters", "y_out"), "*fp16"), "threshold": "fp32"},
        **kernels.CORRELATION,
    )
    synthesis = compiled(
        kernels._rows_kernel,
        {"OUTPUTS": 24, "BLOCK_M": kernels.SHIFTED_PIXELS, "BLOCK_N": 32, "PRECISION": "tf32", **tile},
        {**whole, "y": "*fp16", "filters": "*fp16"},
        **kernels.SYNTHESIS,
    )
    for code in (correlation, synthesis):
        assert "wgmma.mma_async.sync.aligned.m64" in code
        assert ".f32.f16.f16" in code
        assert "atom" not in code


def test_refuses_what_it_does_not_take(dictionary: Dictionary, highpass: torch.Tensor) -> None:
    assert not fused.available() or torch.cuda.is_available()
    for signal in (highpass[:1], highpass[:1].double()):
        with pytest.raises(TensorError, match="fused"):
            solve_cbpdn(signal, dictionary, 0.2, method="fused")
