"""A bar on the terminal or in the notebook; nothing where there is neither."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stl_ray.text import plain

Advance = Callable[[str, int], None]
"""(what is being done, images that are done) -> None."""


@contextmanager
def progress_bar(total: int, show: bool) -> Iterator[Advance]:
    """A bar over `total` images, counted once for each thing that is done to them.

    Args:
        total: units of the whole bar.
        show: False for none.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    seen = show and (console.is_terminal or console.is_jupyter)
    with Progress(*columns, console=console, disable=not seen) as bar:
        task = bar.add_task("", total=total)

        def advance(label: str, images: int) -> None:
            bar.update(task, description=plain(label), advance=images)

        yield advance
