import io
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from PIL import Image

from stl_ray.report.charts import (
    DPI,
    STYLE,
    accuracy_chart,
    autoencoder_chart,
    candidates_chart,
    chart,
    psnr_chart,
    to_png,
)
from stl_ray.report.lettering import lettering
from stl_ray.report.records import AutoencoderEpoch, Candidate


def test_agrees_error_bars_span_the_intervals(measured):
    axes = accuracy_chart(measured, "retrained").axes[0]
    for container in axes.containers:
        points, _, (bars,) = container.lines
        label = {"No defense": "none", "JPEG": "jpeg", "STL": "stl", "STL (cluster)": "stl_cluster"}[
            container.get_label()
        ]
        cells = [c for c in measured.cells if (c.setting, c.defense) == ("retrained", label)]
        np.testing.assert_allclose(points.get_ydata().astype(float), [cell.accuracy for cell in cells])
        spans = [segment[:, 1] for segment in bars.get_segments()]
        np.testing.assert_allclose(spans, [(cell.low, cell.high) for cell in cells], atol=1e-12)
    assert len(axes.containers) == 4
    assert [text.get_text() for text in axes.get_xticklabels()] == ["Clean", "FGSM-0.08", "FGSM-0.04", "BIM-0.03"]


def test_invariant_long_names_leave_a_chart_its_room(measured):
    def longer(cell):
        return cell.model_copy(update={"defense": f"{cell.defense}-{'w' * 90}", "attack": f"{cell.attack}-{'W' * 90}"})

    long = measured.model_copy(update={"cells": tuple(map(longer, measured.cells))})
    with warnings.catch_warnings(), mpl.rc_context(STYLE | lettering()):
        warnings.simplefilter("error")
        figure = accuracy_chart(long, "retrained")
        figure.draw_without_rendering()
        legend, labels = figure.legends[0].get_window_extent(), figure.axes[0].get_xticklabels()
        boxes = [label.get_window_extent() for label in labels]
    assert figure.axes[0].get_window_extent().height > 0
    assert all(box.x0 >= 0 and box.y0 >= legend.y1 for box in boxes)
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1


def test_invariant_a_missing_psnr_leaves_its_place_empty(measured):
    axes = psnr_chart(measured).axes[0]
    undefended = axes.containers[0].lines[0].get_ydata()
    assert np.isnan(undefended[0])
    assert list(undefended[1:]) == [26.0, 25.0, 24.0]
    assert axes.get_xticklabels()[0].get_text() == "Clean"


def test_agrees_the_diagnostic_shows_every_candidate_and_marks_the_chosen_one():
    rows = [Candidate(clusters=m, inertia=10 / m, silhouette=m / 10, sizes=(1,) * m) for m in (6, 2, 3)]
    inertia, silhouette = candidates_chart(rows, 4).axes
    for axes, values in ((inertia, [5, 10 / 3, 10 / 6]), (silhouette, [0.2, 0.3, 0.6])):
        curve, chosen = axes.lines
        np.testing.assert_allclose(curve.get_xydata(), list(zip([2, 3, 6], values, strict=True)))
        assert set(chosen.get_xdata()) == {4}
    assert inertia.get_legend().get_texts()[0].get_text() == "chosen: M = 4"


def test_agrees_the_noisy_images_are_drawn_where_they_were_measured():
    epochs = [
        AutoencoderEpoch(epoch=e, train_loss=0.5, validation_loss=0.5, psnr=20.0, noisy_psnr=17.0 if e > 1 else None)
        for e in (1, 2, 3)
    ]
    denoised, noisy = autoencoder_chart(epochs).axes[1].lines
    assert denoised.get_xydata().tolist() == [[1, 20], [2, 20], [3, 20]]
    assert noisy.get_xydata().tolist() == [[2, 17], [3, 17]]
    assert len(autoencoder_chart(epochs[:1]).axes[1].lines) == 1


def test_invariant_drawing_leaves_no_trace_and_repeats_itself(measured):
    before = dict(mpl.rcParams)
    one, two = (chart("psnr", "A caption", psnr_chart, measured) for _ in range(2))
    assert one == two
    first = to_png(psnr_chart, measured)
    assert one.png == first
    assert dict(mpl.rcParams) == before
    width, height = psnr_chart(measured).get_size_inches()
    with Image.open(io.BytesIO(first)) as image:
        assert image.size == (round(width * DPI), round(height * DPI))


def test_certificate_a_chart_is_vectors_with_its_text_as_text(measured):
    """Also where names have letters that are markup, or that no font has."""
    cells = [cell.model_copy(update={"defense": f"{cell.defense}<&\x1b猫"}) for cell in measured.cells]
    svg = chart("psnr", "", psnr_chart, measured.model_copy(update={"cells": tuple(cells)})).svg
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"Clean", "FGSM-0.08", "PSNR against the clean image, dB", r"jpeg<&\x1b\u732b"} <= set(texts)
    assert b"<image" not in svg and b"matplotlib.org" not in svg and b"dc:date" not in svg


def test_identity_charts_in_the_same_style_are_the_same_in_another_process(measured, tmp_path):
    """Hashes of Python, which differ from process to process, have no part in the names of an SVG's elements."""
    (tmp_path / "scores.json").write_text(measured.model_dump_json())
    code = (
        "import sys, pathlib; from stl_ray.report.charts import chart, psnr_chart; from stl_ray.report.records import Scores; "
        "scores = Scores.model_validate_json(pathlib.Path(sys.argv[1]).read_bytes()); "
        "sys.stdout.buffer.write(chart('psnr', '', psnr_chart, scores).svg)"
    )
    there = subprocess.run([sys.executable, "-c", code, tmp_path / "scores.json"], capture_output=True, check=True)
    assert there.stdout == chart("psnr", "", psnr_chart, measured).svg
