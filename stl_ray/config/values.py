"""YAML 1.1, read by the types of the keys: text stays as it is written, whatever number, date or word it looks like.

Numbers are decimal whatever they begin with (010 is ten, not YAML 1.1's eight), 1e-3 is one, and 1:30 is none.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import yaml

from stl_ray.config.keys import below, holds_more, is_text
from stl_ray.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_INT = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)\Z")
_FLOAT = re.compile(
    r"([-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
)
_OURS = [("null", _NULL, ["~", "n", "N", ""]), ("int", _INT, [*"-+0123456789"]), ("float", _FLOAT, [*"-+.0123456789"])]
_KEPT = (f"{_TAG}bool", f"{_TAG}merge")


class _Loader(yaml.SafeLoader):
    """Reads the scalars that look like one."""


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Loader` would take for something else."""


class _Whole(_Loader):
    """Refuses comments, which would cut a value short."""

    def scan_to_next_token(self) -> None:
        start = self.pointer
        super().scan_to_next_token()
        if "#" in self.buffer[start : self.pointer]:
            raise yaml.YAMLError("# begins a comment; quote a text that holds one")


for _class in (_Loader, _Dumper):
    _rows = _class.yaml_implicit_resolvers.items()
    _class.yaml_implicit_resolvers = {first: [row for row in rows if row[0] in _KEPT] for first, rows in _rows}
    for _name_of, _pattern, _first in _OURS:
        _class.add_implicit_resolver(f"{_TAG}{_name_of}", _pattern, _first)


def read(text: str, annotation: object, *, item: str) -> Any:
    """The value in a YAML document: None, numbers, text, lists, and mappings with text for keys.

    Args:
        text: the document.
        annotation: of the value; of a section, its class.
        item: the file that it is, for messages.

    Raises:
        ConfigError: if it is not YAML, or holds what is no value.
    """
    return _read(_Loader, text, annotation, item=item, key="")


def read_override(text: str, annotation: object, *, key: str) -> Any:
    """The value of key=value: text as it stands, unless it is wholly in quotes; null, or nothing, is None.

    Args:
        text: all behind the first =.
        annotation: of the key, None if it is unknown.
        key: with its dots, for messages.

    Raises:
        ConfigError: as for `read`.
    """
    expects_text = is_text(annotation)
    if not expects_text and (holds_more(annotation) or text.lstrip()[:1] in ("[", "{")):
        return _read(_Whole, text, annotation, item=f"{key}={text}", key=key)
    if (quoted := _unquoted(text)) is not None:
        return _scalar(quoted, "str", annotation, key)
    bare = text if expects_text else text.strip()
    tag: str = _Loader("").resolve(yaml.ScalarNode, bare, (True, False))  # type: ignore[no-untyped-call]
    return _scalar(bare, tag.removeprefix(_TAG), annotation, key)


def written(values: Any) -> str:
    """The YAML document of a value, which `read` gives back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def inline(value: Any) -> str:
    """A value in YAML as it may stand behind a key, also between { and }; `read` gives it back."""
    listed: str = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True)
    return listed[1:-2]


def _unquoted(text: str) -> str | None:
    """The text in the quotes that hold all of it; None if there are none."""
    if text[:1] not in ("'", '"'):
        return None
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError:
        return None
    if not isinstance(node, yaml.ScalarNode) or node.style != text[0] or node.end_mark.index < len(text):
        return None
    return str(node.value)


def _read(kind: type[_Loader], text: str, annotation: object, *, item: str, key: str) -> Any:
    try:
        loader = kind(text)
        node = loader.get_single_node()
        return None if node is None else _value(loader, node, annotation, key)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML ({' '.join(str(error).split())})", item=item) from error
    except RecursionError as error:
        raise ConfigError("not a configuration: nested without end", item=item) from error


def _value(loader: _Loader, node: yaml.Node, annotation: object, key: str) -> Any:
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
        return _scalar(str(node.value), kind, annotation, key)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        entries = enumerate(node.value)
        return [_value(loader, child, below(annotation, str(n)), _joined(key, str(n))) for n, child in entries]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        names = [_name(name, key) for name, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError("given twice in one section", item=_joined(key, twice))
        loader.flatten_mapping(node)  # <<: *anchor
        pairs = [(_name(name, key), child) for name, child in node.value]
        return {name: _value(loader, child, below(annotation, name), _joined(key, name)) for name, child in pairs}
    raise ConfigError("a YAML tag that means nothing here", item=key, got=node.tag)


def _scalar(text: str, kind: str, annotation: object, key: str) -> Any:
    if kind == "null":
        return None
    if is_text(annotation) or kind in ("str", "merge"):
        if re.search("[\ud800-\udfff]", text):
            raise ConfigError("not UTF-8", item=key, got=ascii(text))
        return text
    try:
        return _SCALARS[kind](text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"not of YAML's type {kind}", item=key, got=text[:40]) from error


def _name(node: yaml.Node, key: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError("a name of a key is no list and no mapping", item=key or "configuration")
    return str(node.value)


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _int(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0 if digits.lstrip("+-")[:2] in ("0b", "0o", "0x") else 10)


def _float(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _bool(text: str) -> bool:
    return yaml.SafeLoader.bool_values[text.lower()]


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": str,
    "str": str,
    "merge": str,  # << as a value
    "int": _int,
    "float": _float,
    "bool": _bool,
}
