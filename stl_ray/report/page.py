"""The page: sections to one self-contained HTML file and one Markdown file, and the figures beside them."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from stl_ray.config import ReportConfig
from stl_ray.report.blocks import Block, Figure, Section
from stl_ray.report.charts import DPI
from stl_ray.report.inputs import read_inputs
from stl_ray.report.sections import build_sections
from stl_ray.store import Storage
from stl_ray.text import plain

HTML, MARKDOWN, FRAGMENT, FIGURES = "report.html", "report.md", "fragment.html", "figures"


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
        out: folder to write report.html, report.md and figures/ into.
        config: the report section of the configuration.

    Raises:
        ArtifactError: if an input is there but unreadable, altered, or of another version.
        StorageError: if `out` cannot be written to.
    """
    inputs = read_inputs(root)
    name = inputs.experiment.name if inputs.experiment else ""
    title = " ".join(config.title.split())  # YAML may have it on several lines
    sections = build_sections(inputs, paper=config.paper)
    storage = Storage.open(out)
    figures = [block for section in sections for block in section.blocks if isinstance(block, Figure)]
    for figure in figures:
        storage.write(f"{FIGURES}/{figure.name}.png", figure.png)
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
