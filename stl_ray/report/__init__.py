"""THE REPORT: an experiment's folder to tables, figures and one self-contained page. Reads files only.

records      the files that it reads, one model each
inputs       reading them; a missing file is said to be missing
blocks       the blocks of a page
intervals    numbers with their intervals, as cells
accuracy     the accuracy tables and the sentence that says what they show
detection    what the detectors of defenses refused
threats      what the attackers behind these tables knew
attacks      what the attacks did, and where they missed the budget
draws        randomised defenses over several draws
perturbations  what defenses leave of perturbations
tiers        every defense under attacks that know of it, and the checks on these
sweeps       curves of accuracy over one number in which defenses or attack sets differ
paper        the paper's tables
beside_paper these with ours in their cells
space        a space as it lies on disk
spaces       the spaces that defenses project onto, with their learning curves
portrait     a space as facts, tables and figures
learning     how spaces and classifiers were learned, with the curves
lettering    text as a figure can show it
charts       plots
pictures     the filter atlas, the images of the clusters, the gallery
gallery      the gallery's figures, and the same in words
provenance   timings, quarantine, versions and digests
sections     the page's sections, in order
tidy         every prediction as one table
robustbench  worst cases as entries in the manner of RobustBench's
latex        a table as LaTeX
comma_separated  a table as CSV
page         HTML and Markdown from the sections, and what lies beside them; `build_report`
terminal     a portrait, and blocks of the page, as plain text

and of two experiments
differences  what differs between their configurations
pairs        their cells compared image by image
two_roots    reading both
comparison   as blocks, Markdown and CSV

No torch and no Ray: a page can be made where neither is installed.
"""

from stl_ray.report.comparison import comparison_sections, to_csv, to_markdown
from stl_ray.report.page import ReportPaths, build_report
from stl_ray.report.portrait import Portrait, portray, portray_artifact
from stl_ray.report.space import StoredSpace, read_space
from stl_ray.report.terminal import blocks_text, indented, portrait_text
from stl_ray.report.two_roots import Comparison, compare_roots

__all__ = [
    "Comparison",
    "Portrait",
    "ReportPaths",
    "StoredSpace",
    "blocks_text",
    "build_report",
    "compare_roots",
    "comparison_sections",
    "indented",
    "portrait_text",
    "portray",
    "portray_artifact",
    "read_space",
    "to_csv",
    "to_markdown",
]
