"""Text as a figure can show it: its fonts lack glyphs, long names leave no room, and a dollar sign is no mathematics."""

from functools import lru_cache
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, get_font

from stl_ray.report.names import class_label
from stl_ray.text import escaped, plain

LONGEST = 28  # characters of a label
HEADING = 16  # of a row of pictures, written upwards
_CLASS = 17  # of each of the two lines under a picture

# The font that matplotlib brings along.
_LAST_FONT = "DejaVu Sans"


def lettering() -> dict[Any, Any]:
    """The settings under which text is drawn as it is written, whatever the user's own settings are."""
    families = [*mpl.rcParams["font.family"], _LAST_FONT]
    return {"text.parse_math": False, "text.usetex": False, "font.family": families}


def for_figure(text: str, most: int = LONGEST) -> str:
    r"""The text on one line of at most so many characters: glyphs that no font has as escapes, such as `\u732b`."""
    drawn = "".join(letter if _has_glyphs(letter) else escaped(letter) for letter in plain(text))
    if len(drawn) > most:
        drawn = f"{drawn[: most // 2]}…{drawn[len(drawn) - (most - 1) // 2 :]}"
    # Matplotlib leaves a label out of its legend that begins with an underscore.
    return f" {drawn}" if drawn.startswith("_") else drawn


def class_in_figure(index: int, class_names: tuple[str, ...]) -> str:
    """The name of a class on two lines at most, or its number where there is no name, or the fonts lack a glyph of it."""
    label = class_label(index, class_names)
    if not _has_glyphs(plain(label)):
        return str(index)
    return "\n".join(wrap(for_figure(label, 2 * _CLASS), _CLASS, max_lines=2, placeholder="…"))


def _has_glyphs(text: str) -> bool:
    fonts = tuple(findfont(FontProperties(family=[family])) for family in lettering()["font.family"])
    return all(ord(letter) in _glyphs(fonts) for letter in text)


@lru_cache(maxsize=4)
def _glyphs(fonts: tuple[str, ...]) -> frozenset[int]:
    return frozenset(point for font in fonts for point in get_font(font).get_charmap())
