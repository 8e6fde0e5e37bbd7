"""Where things lie: absolute paths, and URIs such as s3://bucket/folder?endpoint_override=host:port&scheme=http."""

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from stl_ray.errors import StorageError

# How the SDKs name the parts of a key, in the user part of a URI or in its query.
_SECRETS = ("secret", "token", "password", "access_key", "access_id", "credential")


def normalized(uri: str) -> str:
    """The place that a path or URI means: an absolute path, or a URI without a slash at the end.

    Raises:
        StorageError: if the URI holds credentials, which would end up in logs and records.
    """
    if "://" not in uri:
        return str(Path(uri).expanduser().absolute())
    parts = urlsplit(uri)
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if "@" in parts.netloc or any(secret in name for secret in _SECRETS for name in names):
        raise StorageError(
            "credentials in a URI end up in logs; give them by the environment, a profile or a role",
            item=f"{parts.scheme}://...",
        )
    if parts.scheme == "file":
        return str(Path(unquote(parts.path)).absolute())
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def joined(root: str, path: str) -> str:
    """A path below a root; a URI's query stays at its end."""
    if not path:
        return root
    if "://" not in root:
        return f"{root.rstrip('/')}/{path}"
    head, mark, query = root.partition("?")
    return f"{head.rstrip('/')}/{path}{mark}{query}"


def parted(uri: str) -> tuple[str, str]:
    """The folder of a normalized path or URI, and the last name in it; the inverse of `joined`."""
    head, mark, query = (uri, "", "") if "://" not in uri else uri.partition("?")
    folder, _, name = head.rpartition("/")
    return (folder or "/") + mark + query, name
