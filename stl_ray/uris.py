"""Where things lie: absolute paths, and URIs such as s3://bucket/folder?endpoint_url=http://host:port.

    place = path | scheme "://" host ["/" key] ["?" options]
    options = name "=" value *("&" name "=" value)

A path is taken character by character; a leading ~ is the home folder. So is a key, as by boto and the command lines of
the clouds: # and % are characters like others, and ? is one unless names of options follow the last of them. Only in a
file URI does %XX stand for a byte. What cannot be written so is refused, never altered.
"""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from stl_ray.errors import InputError
from stl_ray.uri_options import refuse_credentials, require_options

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OPTIONS = re.compile(r"[A-Za-z_](\w*(&|\Z)|[\w.-]*=)")
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Place(NamedTuple):
    """The parts of a URI as it is written.

    Attributes:
        scheme: in lower case.
        host: a bucket, for object stores.
        key: without the slash after the host.
        options: what follows the question mark, empty where there is none.
    """

    scheme: str
    host: str
    key: str
    options: str


def is_uri(place: str) -> bool:
    """Whether a place is a URI; else it is a path."""
    return _SCHEME.match(place) is not None


def split(uri: str) -> Place:
    """The parts of a URI."""
    head, options = _headed(uri)
    scheme, _, rest = head.partition("://")
    host, _, key = rest.partition("/")
    return Place(scheme.lower(), host, key, options[1:])


def normalized(place: str) -> str:
    """The place that a path or URI means: an absolute path, or a URI without a slash at the end.

    Raises:
        InputError: if it holds credentials, which would end up in logs and records; a scheme that there is not, or an
            option that it does not have; or what has no one meaning: control characters, folders without a name, . and .. in a key.
    """
    if is_uri(place):
        refuse_credentials(place)
    if found := _NOT_TEXT.search(place):
        message = "a place has no line breaks, other control characters, or bytes that are not UTF-8"
        raise InputError(message, item=ascii(place), got=ascii(found[0]))
    if not is_uri(place):
        return _local(place)
    parts = split(place)
    require_options(parts.scheme, parts.options, item=f"{parts.scheme}://{parts.host}/{parts.key}")
    if parts.scheme == "file":
        return _file(parts)
    key = parts.key.removesuffix("/")
    names = key.split("/") if key else []
    if not {"", ".", ".."}.isdisjoint(names):
        expected = "single slashes, and neither . nor .. as a name: an object store takes them for other keys"
        raise InputError("a folder without a name", item=place, expected=expected)
    if parts.scheme in ("s3", "gs", "gcs") and not parts.host:
        raise InputError("no bucket", item=place, expected=f"{parts.scheme}://bucket/folder")
    whole = f"{parts.scheme}://{'/'.join([parts.host, *names])}{'?' * bool(parts.options)}{parts.options}"
    if split(whole) != parts._replace(key="/".join(names)):
        raise InputError("a folder whose name reads like options of a URI", item=place, expected="no ?name in it")
    return whole


def on_disk(place: str) -> Path:
    """The path of a place that has to be on a disk of this machine.

    Raises:
        InputError: as for `normalized`, or it is elsewhere.
    """
    path = normalized(place)
    if is_uri(path):
        raise InputError("this file is read from a disk only", item=path, expected="a path")
    return Path(path)


def joined(root: str, path: str) -> str:
    """A path below a root; a URI's options stay at its end."""
    if not path:
        return root
    head, options = _headed(root)
    return f"{head.rstrip('/')}/{path}{options}"


def parted(place: str) -> tuple[str, str]:
    """The folder of a normalized path or URI, and the last name in it; the inverse of `joined`."""
    if is_uri(place) and not split(place).key:
        return place, ""
    head, options = _headed(place)
    folder, _, name = head.rpartition("/")
    return (folder or "/") + options, name


def _headed(place: str) -> tuple[str, str]:
    """A place without its options, and these with their question mark."""
    head, mark, options = place.rpartition("?") if is_uri(place) else ("", "", "")
    return (head, mark + options) if mark and _OPTIONS.match(options) else (place, "")


def _local(path: str) -> str:
    first = path.partition("/")[0]
    if first.endswith(":") and "/" in path:
        expected = f"a URI such as s3://bucket/folder, or ./{path} for a folder of this name"
        raise InputError("neither a URI nor clearly a path", item=path, expected=expected)
    if not path:
        raise InputError("an empty place", expected="a path, or a URI such as s3://bucket/folder")
    try:
        # Path drops a leading ./, behind which ~ is a name.
        full = str((Path(path).expanduser() if path.startswith("~") else Path(path)).absolute())
    except RuntimeError:
        expected = f"the name of a user, or ./{path} for a folder of this name"
        raise InputError("there is no such home folder", item=path, expected=expected) from None
    # POSIX lets two leading slashes mean something else, which they do on no system here.
    return "/" + full.lstrip("/")


def _file(parts: Place) -> str:
    """The path that a file URI means."""
    item = f"file://{parts.host}/{parts.key}"
    if parts.host not in ("", "localhost"):
        raise InputError("a file URI names no host", item=item, expected=f"file:///{parts.host}/{parts.key}")
    if re.search("%(?![0-9A-Fa-f]{2})", parts.key):
        raise InputError("% begins a byte in two hexadecimal digits", item=item, expected="%25 for the sign itself")
    try:
        path = unquote_to_bytes(parts.key).decode()
    except UnicodeDecodeError:
        raise InputError("its bytes are not UTF-8", item=item) from None
    return normalized(f"/{path}")
