"""CLI: `stl-ray COMMAND ...`. A file per group of commands; `--help` loads neither torch nor Ray.

command    the parser of all commands, `main`, exit codes
init       a configuration to begin with, by a template of templates/
jobs       the seven jobs, and `quickstart`, which is all of them
cluster    submit, cancel, doctor
roots      verify, status, sweep
compare    compare: what changed between two experiments
spaces     describe, import
defenses   the defenses, and the options of one
given      the experiment that they are given, and where its modules are found
say        what they print, line by line
tables     sizes and times as text
"""

from stl_ray.cli.command import main, parser
from stl_ray.cli.jobs import run_job

__all__ = ["main", "parser", "run_job"]
