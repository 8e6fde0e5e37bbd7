"""Label selectors: which nodes of a cluster may be worked on, as Ray 2.60 reads them (ray/_private/label_utils.py).

A selector gives for some labels what their values may be: a value, `!value`, `in(a,b)` or `!in(a,b)`. A node without the
label matches the negated ones alone. Ray takes blanks behind the commas, and then finds no node; here they are left out.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

_VALUE = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_PART}(?:\.{_PART})*/)?{_VALUE}")
_EXPRESSION = re.compile(rf"(!?)(?:in\(({_VALUE}(?:, *{_VALUE})*)\)|({_VALUE}))|")


def _selector(selector: Mapping[str, str]) -> dict[str, str]:
    for key, expression in selector.items():
        if not _KEY.fullmatch(key):
            expected = "letters, digits, ., _ and -, 63 at most, such as cpu or ray.io/market-type"
            raise ValueError(f"not the name of a label; expected {expected}; got {key!r}")
        if not _EXPRESSION.fullmatch(expression):
            expected = "a value of a label (letters, digits, ., _ and -, 63 at most), !value, in(a,b) or !in(a,b)"
            raise ValueError(f"not what a label may be; expected {expected}; got {expression!r} for {key}")
    return {key: expression.replace(" ", "") for key, expression in selector.items()}


LabelSelector = Annotated[dict[str, str], AfterValidator(_selector)]
"""What the labels of a node must be, by their names; nothing: any node."""


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node with these labels matches a selector, as Ray's scheduler decides it."""
    return all(_admits(expression, labels.get(key)) for key, expression in selector.items())


def _admits(expression: str, value: str | None) -> bool:
    values = expression.removeprefix("!")
    listed = values[3:-1].split(",") if values.startswith("in(") else [values]
    return (value in listed) != expression.startswith("!")
