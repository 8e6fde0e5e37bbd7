"""What a configuration leaves out and a job needs: one error with the key, the reason, and the lines to add."""

from collections.abc import Sequence
from typing import NamedTuple

from stl_ray.errors import ConfigError


class Missing(NamedTuple):
    """A key that is left out.

    Attributes:
        key: its path.
        why: what needs it.
        lines: YAML to add.
        instead: what does without it; empty: nothing.
    """

    key: str
    why: str
    lines: Sequence[str]
    instead: str = ""

    def error(self) -> ConfigError:
        """The error that asks for it."""
        text = "\n".join([f"{self.why}; add", *(f"    {line}" for line in self.lines)])
        return ConfigError(f"{text}\n  {self.instead}" if self.instead else text, item=self.key)


_SOURCE = "{format: folder, path: FOLDER} # in it a folder for each class; `stl-ray ingest --help` has other formats"


def no_images() -> Missing:
    """Neither split has a source."""
    lines = ["ingest:", "  train: {format: folder, path: FOLDER} # where spaces or classifiers are made here"]
    return Missing("ingest", "there is nothing to ingest", [*lines, f"  test: {_SOURCE}"])


def no_test_images(job: str) -> Missing:
    """The test split has no source."""
    return Missing(
        "ingest.test", f"`{job}` works on test images, and there are none", ["ingest:", f"  test: {_SOURCE}"]
    )


def no_training_images(users: Sequence[str], instead: str) -> Missing:
    """The training split has no source, and some parts of the experiment, in words, are made from it."""
    why = f"there are no training images for {', '.join(users)}"
    return Missing("ingest.train", why, ["ingest:", f"  train: {_SOURCE}"], instead)


def no_classifiers(job: str | None = None, *, unscored: bool = False) -> Missing:
    """No classifier is listed, or all have `scored: false`; None: several jobs need one."""
    wanted, lacking = (
        ("a classifier that is scored", "all have `scored: false`") if unscored else ("a classifier", "none is listed")
    )
    why = f"{wanted} is needed, and {lacking}" if job is None else f"`{job}` needs {wanted}, and {lacking}"
    lines = [
        "classifiers:",
        "  - name: mine",
        "    architecture: mypackage:make # or torchvision:NAME, timm:NAME and their weights",
    ]
    return Missing("classifiers", why, lines)


def asked_for(missing: Sequence[Missing]) -> ConfigError:
    """One error for all that is missing; of a single one its own."""
    if len(missing) == 1:
        return missing[0].error()
    return ConfigError("\n  ".join([f"{len(missing)} keys are missing:", *(str(item.error()) for item in missing)]))
