"""Numbers with their intervals, as cells of a table."""

from stl_ray.report.blocks import EMPTY, Cell
from stl_ray.report.records import Share


def interval_cell(value: float, low: float, high: float, *, strong: bool = False) -> Cell:
    """A number, its interval behind it."""
    return Cell(f"{value:.3f}", note=f"[{low:.3f}, {high:.3f}]", strong=strong)


def share_cell(share: Share | None) -> Cell:
    """A share, where there is one."""
    return EMPTY if share is None else interval_cell(share.share, share.low, share.high)
