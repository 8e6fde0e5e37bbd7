"""What every section is, and the types of its keys."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stl_ray.errors import StorageError
from stl_ray.uris import normalized

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def absolute(path: str) -> str:
    """A path that means the same file for every worker, wherever it runs."""
    if not path or path.startswith("://"):
        raise ValueError("expected a path, or a URI such as s3://bucket/folder")
    try:
        return normalized(path)
    except StorageError as error:
        raise ValueError(error.message) from None


Location = Annotated[str, AfterValidator(absolute)]
"""A path or URI; a relative path is taken from where the command is given."""


class Section(BaseModel):
    """Immutable, typed, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
