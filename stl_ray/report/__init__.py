"""THE REPORT: an experiment's folder to tables, figures and one self-contained page. Reads files only.

records      the files that it reads, one model each
inputs       reading them; what is not there yet is missing, never made up
blocks       what a page is made of
accuracy     the accuracy tables and the sentence that says what they show
attacks      what the attacks did, and where they missed the budget
paper        the paper's tables, shown beside ours
charts       plots
pictures     the filter atlas and the gallery
provenance   timings, quarantine, versions and digests
sections     the page's sections, in order
page         HTML and Markdown from the sections; `build_report`

No torch and no Ray: a page can be made where neither is installed.
"""

from stl_ray.report.page import ReportPaths, build_report

__all__ = ["ReportPaths", "build_report"]
