"""Examples of what is refused, for an error: how many members of tars, and the first of them by name."""

from collections.abc import Sequence

import pyarrow as pa

from stl_ray.errors import InputError
from stl_ray.text import plain

_SHOWN = 3


class Examples:
    """Members that something is wrong with: how many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, tar: str, paths: pa.ChunkedArray, values: pa.ChunkedArray | None = None) -> None:
        """Count members of a tar.

        Args:
            tar: its path.
            paths: of the members.
            values: what each says.
        """
        self.count += len(paths)
        some = slice(0, _SHOWN - len(self._shown))
        names = [f"{tar}: {path}" for path in paths[some].to_pylist()]
        if values is not None:
            names = [f"{name} ({value})" for name, value in zip(names, values[some].to_pylist(), strict=True)]
        self._shown += map(plain, names)

    def refuse(self, message: str, *, item: str, expected: str) -> None:
        """Refuse the source if there are any.

        Raises:
            InputError: with the count and the examples.
        """
        if self.count:
            raise InputError(message, item=item, expected=expected, got=str(self))

    def __str__(self) -> str:
        """Such as `5: a.tar: x.cls, a.tar: y.cls, b.tar: z.cls, ...`."""
        return f"{self.count}: {', '.join(self._shown)}{', ...' * (self.count > len(self._shown))}"


def first_of(names: Sequence[str]) -> str:
    """The first of some names, such as `a, b, c, ...`."""
    return ", ".join(map(plain, names[:_SHOWN])) + ", ..." * (len(names) > _SHOWN)
