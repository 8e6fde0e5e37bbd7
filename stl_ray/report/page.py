"""The page: sections to one self-contained HTML file and one Markdown file, and what lies beside them."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from stl_ray.config import ReportConfig
from stl_ray.report.blocks import Block, Figure, Section, Table
from stl_ray.report.charts import DPI
from stl_ray.report.comma_separated import comma_separated
from stl_ray.report.inputs import read_inputs
from stl_ray.report.latex import latex_table
from stl_ray.report.robustbench import entries_of
from stl_ray.report.sections import build_sections
from stl_ray.report.tidy import write_predictions
from stl_ray.store import Storage
from stl_ray.text import plain

HTML, MARKDOWN, FRAGMENT, TABLE = "report.html", "report.md", "fragment.html", "table.md"
FIGURES, TABLES, ENTRIES = "figures", "tables", "robustbench"


@dataclass(frozen=True)
class ReportPaths:
    """Absolute paths of what was written."""

    html: str
    markdown: str
    figures: tuple[str, ...]


def build_report(root: str, out: str, config: ReportConfig) -> ReportPaths:
    """Write the report of an experiment. The same inputs give the same bytes.

    Args:
        root: path or URI of the experiment. What it does not hold yet is said to be missing.
        out: folder to write into: report.html and report.md, and figures/, tables/, robustbench/ and predictions.parquet.
        config: the report section of the configuration.

    Raises:
        ArtifactError: if an input is there but unreadable, altered, or of another version, or scores and predictions differ.
        AuditError: if predictions were altered.
        StorageError: if `out` cannot be written to.
    """
    inputs = read_inputs(root)
    name = inputs.experiment.name if inputs.experiment else ""
    title = " ".join(config.title.split())  # YAML may have it on several lines
    sections = build_sections(inputs, paper=config.paper)
    storage = Storage.open(out)
    shown = [block for section in sections for block in section.blocks]
    figures = [block for block in shown if isinstance(block, Figure)]
    for figure in figures:
        storage.write(f"{FIGURES}/{figure.name}.png", figure.png)
        if figure.svg is not None:
            storage.write(f"{FIGURES}/{figure.name}.svg", figure.svg)
    for table in (block for block in shown if isinstance(block, Table)):
        for ending, made in {"csv": comma_separated, "tex": latex_table, "md": markdown_table}.items():
            storage.write(f"{TABLES}/{table.name}.{ending}", made(table).encode())
    for block in inputs.blocks:
        if entries := entries_of(inputs, block):
            storage.write_json(f"{ENTRIES}/{block.name}.json", entries)
    if inputs.predicted:
        write_predictions(inputs, Storage.open(root), storage)
    for template in (HTML, MARKDOWN):
        storage.write(template, render(template, title=title, name=name, sections=sections).encode())
    return ReportPaths(
        html=storage.at(HTML),
        markdown=storage.at(MARKDOWN),
        figures=tuple(storage.at(f"{FIGURES}/{figure.name}.png") for figure in figures),
    )


def render(template: str, *, title: str, name: str, sections: Sequence[Section]) -> str:
    """The text of the page by the template of that file name in templates/."""
    return _templates().get_template(template).render(title=title, name=name, sections=sections)


def fragment(blocks: Sequence[Block]) -> str:
    """Blocks as a piece of HTML within another page, such as a notebook."""
    return _templates().get_template(FRAGMENT).render(blocks=blocks)


def markdown_table(table: Table) -> str:
    """A table as Markdown, as it stands on the page."""
    return _templates().get_template(TABLE).render(block=table)


def _templates() -> Environment:
    """Templates in which a text comes out as it is, on one line (`stl_ray.text.plain`), escaped in HTML, `literal` in Markdown."""
    environment = Environment(
        loader=PackageLoader("stl_ray.report"),
        autoescape=lambda file: file is not None and file.endswith(".html"),
        undefined=StrictUndefined,
        finalize=lambda value: plain(value) if type(value) is str else value,  # Markup is HTML already
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "css_width": _css_width,
        "literal": _literal,
        "fence": _fence,
        "kind": lambda block: type(block).__name__,
    }
    return environment


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _css_width(png: bytes) -> int:
    """The width in CSS pixels (96 per inch) at which the figures' text has one size across the page."""
    return int.from_bytes(png[16:20], "big") * 96 // DPI


def _literal(text: str) -> str:
    """The text with the characters escaped that Markdown would take for markup; `$` is mathematics to GitHub."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", plain(text))


def _fence(text: str) -> str:
    """A fence of backticks around a listing, longer than any within."""
    return "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
