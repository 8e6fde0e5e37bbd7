import io
import logging
import warnings

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image

from stl_ray.report import charts, pictures
from stl_ray.report.lettering import HEADING, LONGEST, class_in_figure, for_figure
from stl_ray.report.records import GalleryRow, TrainingEpoch

ANY = st.text(st.characters(exclude_categories=()))
# What the font has glyphs for: most of Unicode is drawn as the number of its class.
DRAWABLE = st.text(st.sampled_from([chr(point) for point in get_font(findfont("DejaVu Sans")).get_charmap()]))


def _rows() -> list[GalleryRow]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    png = buffer.getvalue()
    row = GalleryRow(id="0", label=0, attack="bim", defense="stl", adversarial=png, purified=png, clean=png,
                     pred_before=0, pred_after=0, right_before=True, refused_after=False, right_after=True)  # fmt: skip
    return [row.model_copy(update={"id": str(n), "label": n, "pred_before": n}) for n in range(2)]


ROWS = _rows()


def _texts(name: str) -> list[str]:
    """The texts of a gallery with a class of that name, which is drawn without a warning."""
    found = []

    def draw() -> mpl.figure.Figure:
        figure = pictures.gallery(ROWS, (name, "dog"))
        texts = figure.findobj(Text)
        assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
        found.extend(text.get_text() for text in texts)
        return figure

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert charts.to_png(draw).startswith(b"\x89PNG")
    return found


@pytest.mark.parametrize("name", ["Ba$$in", "$5-$10", "a_b^c", "50 %", "\\alpha", "שלום", "{x}"])
def test_identity_a_name_is_drawn_as_it_is_written(name):
    assert f"✓ {name}" in _texts(name)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[1m", r"\x1b[1m"),
        ("猫", "0"),
        ("🦊 fox", "0"),
        ("", "0"),
        (" \t", "0"),
        ("x" * 300, "x" * 17 + "\n…" + "x" * 16),
        ("German short-haired pointer", "German short-\nhaired pointer"),
    ],
)
def test_identity_a_name_that_cannot_be_drawn_is_replaced_by_what_can(name, drawn):
    assert f"✓ {drawn}" in _texts(name)
    assert class_in_figure(0, (name,)) == drawn
    assert class_in_figure(1, (name,)) == "1"


@settings(max_examples=25, deadline=None)
@given(DRAWABLE | ANY)
def test_certificate_every_class_name_can_be_drawn(name):
    _texts(name)


@given(DRAWABLE | ANY)
def test_certificate_what_is_drawn_is_one_short_line_that_the_font_has(text):
    shown = for_figure(text)
    assert len(shown) <= LONGEST + 1
    assert shown.isprintable() or set(shown) - {c for c in shown if c.isprintable()} <= set(text)
    assert for_figure(shown.lstrip()) == shown.lstrip() or shown.startswith(" ")


def test_identity_the_middle_of_a_long_name_is_left_out():
    assert for_figure("fgsm-linf-8-with-many-steps", HEADING) == "fgsm-lin…y-steps"
    assert for_figure("retrained, 猫") == r"retrained, \u732b"


def test_invariant_a_settings_file_of_the_users_changes_no_name():
    with mpl.rc_context({"text.usetex": True, "text.parse_math": True}):
        assert "✓ $5-$10" in _texts("$5-$10")


def test_invariant_a_font_of_the_users_keeps_its_fallback(caplog):
    with mpl.rc_context({"font.family": ["DejaVu Serif"]}), caplog.at_level(logging.WARNING):
        assert "✓ 0" in _texts("猫")
    assert not caplog.records


def test_identity_a_legend_has_every_classifier():
    epochs = [TrainingEpoch(epoch=1, loss=1, accuracy=0.5, learning_rate=0.1, seconds=1, images_per_second=1)]
    names = ["vanilla", "_vanilla, before", "$a$", "x" * 300]
    figures = []

    def draw() -> mpl.figure.Figure:
        figures.append(charts.training_chart(dict.fromkeys(names, epochs)))
        return figures[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts.to_png(draw)
    (legend,) = figures[0].legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["vanilla", " _vanilla, before", "$a$", for_figure("x" * 300)]
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figures[0].bbox.x1
