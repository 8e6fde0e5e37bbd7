"""The options of a user's own defense: what its function takes by name, with the types and defaults of its signature."""

import inspect
from typing import Any

from pydantic import create_model
from pydantic.errors import PydanticUserError

from stl_ray.config.base import OptionValue
from stl_ray.defenses.options import DefenseOptions
from stl_ray.errors import ConfigError
from stl_ray.models.functions import function_of
from stl_ray.text import said


def own_options(reference: str) -> type[DefenseOptions]:
    """The section of the options of `module:function`; one without a type takes any text, number or truth value.

    Raises:
        ConfigError: there is no such function, or its parameters cannot be options.
    """
    function = function_of(reference)
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except Exception as error:
        raise ConfigError(f"its parameters cannot be read ({said(error)})", item=reference) from error
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue  # as of a class that has its parent's constructor
        if parameter.kind is parameter.POSITIONAL_ONLY:
            expected = "options that have names, such as size: int = 3"
            raise ConfigError("it takes what cannot be given by name", item=reference, expected=expected, got=parameter)
        if name.startswith("_") or hasattr(DefenseOptions, name):
            raise ConfigError("an option cannot be called so", item=f"{reference}.{name}", expected="another name")
        kind = parameter.annotation
        if kind is parameter.empty:
            kind = OptionValue | None if parameter.default is None else OptionValue
        fields[name] = (kind, ... if parameter.default is parameter.empty else parameter.default)
    try:
        return create_model(reference.replace(":", "."), __base__=DefenseOptions, **fields)
    except PydanticUserError as error:
        raise ConfigError(
            f"a parameter is of a type that no option has ({said(error)})", item=reference,
            expected="bool, int, float, str, list[str], a Literal of some, or one of these with None",
        ) from error  # fmt: skip
