"""The cap on the native core's instruction set: what it allows, who follows it, and what it refuses."""

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, active_set, native, solve_cbpdn
from stl_ray.csc.gradient import projection_vjp
from stl_ray.errors import ConfigError, TensorError

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

HERE = native.instruction_sets()


@pytest.mark.parametrize(
    ("cap", "allowed"),
    [
        ("", ["avx512bf16", "avx512", "avx2", "baseline"]),
        ("avx512bf16", ["avx512bf16", "avx512", "avx2", "baseline"]),
        ("avx512", ["avx512", "avx2", "baseline"]),
        ("avx2", ["avx2", "baseline"]),
        ("baseline", ["baseline"]),
    ],
)
def test_invariant_the_cap_allows_its_own_set_and_slower_ones(
    monkeypatch: pytest.MonkeyPatch, cap: str, allowed: list[str]
) -> None:
    from stl_ray.csc import _native

    monkeypatch.setenv("STL_RAY_MAX_CPU_ISA", cap)
    # A cap above what the processor has forbids nothing.
    assert native.instruction_sets() == [name for name in allowed if name in _native.instruction_sets()]


@pytest.mark.parametrize("cap", HERE)
def test_identity_solves_and_gradients_under_the_cap_are_those_of_its_set(
    highpass: Tensor, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch, cap: str
) -> None:
    s = highpass[:4]
    expected = solve_cbpdn(s, dictionary, 0.2, method=f"active_set/{cap}")
    monkeypatch.setenv("STL_RAY_MAX_CPU_ISA", cap)
    packed: list[str] = []
    pack = active_set._packed
    monkeypatch.setattr(active_set, "_packed", lambda filters, name: packed.append(name) or pack(filters, name))
    for method in ("auto", "active_set"):
        codes = solve_cbpdn(s, dictionary, 0.2, method=method)
        assert torch.equal(codes.synthesis, expected.synthesis)
        assert torch.equal(codes.maps, expected.maps)
    projection_vjp(s, expected.support, dictionary)
    assert packed == [cap] * 3


@pytest.mark.parametrize("position", range(1, len(HERE)))
def test_refuses_a_method_above_the_cap(
    highpass: Tensor, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    monkeypatch.setenv("STL_RAY_MAX_CPU_ISA", HERE[position])
    with pytest.raises(TensorError, match="STL_RAY_MAX_CPU_ISA forbids") as refused:
        solve_cbpdn(highpass[:1], dictionary, 0.2, method=f"active_set/{HERE[position - 1]}")
    assert refused.value.expected == ", ".join(HERE[position:])
    assert refused.value.got == HERE[position - 1]


@pytest.mark.parametrize("cap", ["AVX2", "sse4", "avx2,baseline", " "])
def test_refuses_a_cap_that_names_no_instruction_set(
    highpass: Tensor, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch, cap: str
) -> None:
    monkeypatch.setenv("STL_RAY_MAX_CPU_ISA", cap)
    for method in ("auto", "active_set", f"active_set/{HERE[0]}"):
        with pytest.raises(
            ConfigError, match=r"unknown instruction set in STL_RAY_MAX_CPU_ISA; .*avx2, avx512, avx512bf16, baseline"
        ):
            solve_cbpdn(highpass[:1], dictionary, 0.2, method=method)
