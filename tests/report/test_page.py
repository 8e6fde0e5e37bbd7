import csv
import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.config import ReportConfig
from stl_ray.errors import StorageError
from stl_ray.report import build_report


class Page(HTMLParser):
    """Collects what a browser would load, the cells of every table row, and checks that tags close in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert tag not in ("link", "iframe", "object")
        if "src" in attributes:
            self.loaded.append(attributes["src"])
        if "href" in attributes:
            assert attributes["href"].startswith("#")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


def build(root: Path, out: Path, title: str = "A title") -> tuple[str, str, list[Path]]:
    paths = build_report(str(root), str(out), ReportConfig(title=title))
    return Path(paths.html).read_text(), Path(paths.markdown).read_text(), [Path(path) for path in paths.figures]


@pytest.fixture(scope="module")
def built(finished, tmp_path_factory) -> tuple[str, str, list[Path]]:
    """The pages and figures of the finished experiment."""
    return build(finished, tmp_path_factory.mktemp("report"))


def test_certificate_page_needs_nothing_but_itself(built):
    html, markdown, figures = built
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    loaded = Page(html).loaded
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in loaded)
    assert [b64decode(source.removeprefix(prefix)) for source in loaded] == [path.read_bytes() for path in figures]
    assert [f"figures/{path.name}" for path in figures] == re.findall(r"!\[[^\n]*\]\(([^)]*)\)", markdown)
    assert len(figures) == len({path.name for path in figures}) == 11
    assert "Not here yet" not in html
    charts = {path.stem for path in figures if path.with_suffix(".svg").exists()}
    assert {path.stem for path in figures} - charts == {"space-natural-filters"} | {
        f"gallery-{attack}" for attack in ("fgsm-0.08", "fgsm-0.04", "bim-0.03")
    }


def test_invariant_two_classifiers_have_sections_and_figures_of_their_own(experiment_root, tmp_path):
    """Also where a name with a set's in front of it reads like another's."""
    evaluated = experiment_root / "evaluate"
    (evaluated / "vanilla").rename(evaluated / "net")
    shutil.copytree(evaluated / "net", evaluated / "0.08-net")
    gallery = pq.read_table(evaluated / "0.08-net" / "gallery.parquet").to_pylist()
    renamed = [row | {"attack": row["attack"].removesuffix("-0.08")} for row in gallery]
    pq.write_table(pa.Table.from_pylist(renamed), evaluated / "0.08-net" / "gallery.parquet")
    classifiers = [{"name": name, "architecture": "small_cnn"} for name in ("net", "0.08-net")]
    experiment = json.loads((experiment_root / "experiment.json").read_text()) | {"classifiers": classifiers}
    (experiment_root / "experiment.json").write_text(json.dumps(experiment))
    html, markdown, figures = build(experiment_root, tmp_path / "report")
    anchors = re.findall(r'<section id="([^"]*)"', html)
    assert len(anchors) == len(set(anchors)) and {"vanilla-net", "vanilla-0.08-net", "gallery-net"} <= set(anchors)
    assert set(re.findall(r'href="#([^"]*)"', html)) <= set(anchors)
    assert len(figures) == len(set(figures)) and all(path.exists() for path in figures)
    tables = {path.relative_to(tmp_path / "report") for path in (tmp_path / "report" / "tables").rglob("*.csv")}
    assert {Path("tables/net/accuracy-vanilla.csv"), Path("tables/0.08-net/attacks.csv")} <= tables
    assert len(tables) == markdown.count("\n| ---")
    loaded = [b64decode(source.removeprefix("data:image/png;base64,")) for source in Page(html).loaded]
    assert loaded == [path.read_bytes() for path in figures]
    linked = re.findall(r"!\[[^\n]*\]\((figures/[^)]*)\)", markdown)
    assert [tmp_path / "report" / link for link in linked] == figures
    assert "Vanilla classifier (net)" in html and "Vanilla classifier (0.08-net)" in html


def test_agrees_accuracies_on_the_page_are_the_counts_of_the_scores(built, counts):
    rows = Page(built[0]).rows
    for setting, defenses in counts.items():
        expected = [f"{correct / 200:.3f}" for correct in defenses["stl_cluster"]]
        found = [[cell.split("[")[0] for cell in row[1:]] for row in rows if row[0] == "STL (cluster)"]
        assert expected in found, setting


def test_invariant_markdown_tables_are_rectangular(built):
    markdown = built[1]
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(blocks) == 16
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
        assert set(block.splitlines()[1]) <= set("|-: ")


def test_invariant_same_inputs_give_the_same_bytes(built, finished, tmp_path):
    build(finished, tmp_path)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (built[2][0].parents[1], tmp_path)
    )
    assert len(one) == 13 + 7 + 3 * 16
    assert one == two


def test_certificate_every_table_of_the_page_is_beside_it(built):
    """As Markdown word for word, as CSV cell by cell, and as LaTeX."""
    html, markdown, figures = built
    folder = figures[0].parents[1] / "tables"
    names = {path.stem for path in folder.iterdir()}
    assert {f"{name}.{ending}" for name in names for ending in ("csv", "tex", "md")} == {
        p.name for p in folder.iterdir()
    }
    assert len(names) == 16 and {"accuracy-vanilla", "difference-retrained", "gallery-bim-0.03", "attacks"} <= names
    assert all((folder / f"{name}.md").read_text() in markdown for name in names)
    assert sum((folder / f"{name}.md").read_text().count("\n|") for name in names) == markdown.count("\n|")
    with (folder / "accuracy-vanilla.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == ["Defense", "Clean", "Clean interval", "FGSM-0.08", "FGSM-0.08 interval"]
    shown = [[row[0], *map("".join, zip(row[1::2], row[2::2], strict=True))] for row in rows[1:]]
    assert all(row in Page(html).rows for row in shown)
    assert (folder / "accuracy-vanilla.tex").read_text().count(" \\\\\n") == len(rows)


def test_invariant_an_empty_experiment_states_what_is_missing(tmp_path):
    html, markdown, figures = build(tmp_path / "nothing", tmp_path / "report")
    assert figures == []
    missing = ("experiment.json", "evaluate/CLASSIFIER/scores.json", "spaces/NAME/space.json",
               "train/CLASSIFIER/metrics.jsonl", "jobs/JOB/", "MANIFEST.json")  # fmt: skip
    for name in missing:
        assert name in html and name.replace("_", r"\_") in markdown
    # The paper's tables are the only figures on such a page.
    assert all(
        row[0] in ("Defense", "No defence", "MagNet", "PixelDefend", "STL", "STL (cluster)") for row in Page(html).rows
    )


def test_invariant_a_title_cannot_become_markup(experiment_root, tmp_path):
    html, markdown, _ = build(experiment_root, tmp_path / "report", title="<b>|*x*")
    assert "<b>" not in html and "&lt;b&gt;|*x*" in html
    assert r"# \<b\>\|\*x\*" in markdown


def test_roundtrip_odd_class_names_are_on_the_page_whole(experiment_root, tmp_path):
    for folder in ("spaces", "train"):
        shutil.rmtree(experiment_root / folder)
    scores = json.loads((experiment_root / "evaluate" / "vanilla" / "scores.json").read_text())
    scores["class_names"] = ["Ba$$in", "<b>猫|`*" + "x" * 200, "two\nlines \x1b[31m"]
    (experiment_root / "evaluate" / "vanilla" / "scores.json").write_text(json.dumps(scores))
    html, _, _ = build(experiment_root, tmp_path / "report", title="Several\nlines\n")
    assert "<h1>Several lines</h1>" in html
    cells = {cell for row in Page(html).rows for cell in row}
    for number, name in enumerate(("Ba$$in", "<b>猫|`*" + "x" * 200, r"two\nlines \x1b[31m")):
        assert {f"{name}class {number}", f"✓ {name}class {number}"} <= cells


def test_refuses_a_folder_that_cannot_be_written_to(experiment_root, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="file"):
        build_report(str(experiment_root), str(tmp_path / "file"), ReportConfig())


def test_invariant_the_room_loads_neither_torch_nor_ray():
    code = "import sys, stl_ray.report; print(sorted({'torch', 'ray', 'matplotlib.pyplot'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
