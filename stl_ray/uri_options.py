"""The schemes of URIs and their options, as in s3://...?endpoint_url=http://host:port&region=name: which there are, and
what none may hold."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from stl_ray.errors import InputError
from stl_ray.options import nearest

# How the SDKs name the parts of a key.
_SECRETS = ("secret", "token", "password", "access_key", "access_id", "credential")

_S3 = {
    "anonymous": "true, for requests without a key, or false",
    "endpoint_override": "host:port, and beside it scheme=http for a server without TLS",
    "endpoint_url": "http://host:port or https://host:port, alone",
    "region": "a name such as us-east-1",
    "scheme": "http or https, beside an endpoint_override of host:port",
}
# What pyarrow 26 takes, without the credentials.
_KNOWN = {
    "s3": tuple(_S3),
    "gs": ("endpoint_override", "project_id", "retry_limit_seconds", "scheme"),
    "abfs": ("background_writes", "blob_storage_authority", "client_id", "dfs_storage_authority", "enable_tls", "tenant_id"),
    "file": (),
}  # fmt: skip
_KNOWN["gcs"], _KNOWN["abfss"] = _KNOWN["gs"], _KNOWN["abfs"]
_WITH_ANY_OPTIONS = ("hdfs", "viewfs")  # of their own, without an end


def options_of(options: str) -> dict[str, str]:
    """The values by name, with %XX decoded."""
    pairs = (option.partition("=") for option in options.split("&") if option)
    return {name: unquote(value) for name, _, value in pairs}


def require_options(scheme: str, options: str, *, item: str) -> None:
    """Refuse a scheme that there is not, options that it does not have, and values that cannot be meant.

    Args:
        scheme: in lower case.
        options: what follows the question mark of a URI.
        item: the URI without them, for the message.

    Raises:
        InputError: with the nearest scheme or option, or what is expected of it.
    """
    if scheme not in (schemes := (*_KNOWN, *_WITH_ANY_OPTIONS)):
        raise InputError(f"no kind of storage is called {scheme!r}", item=item, expected=nearest(scheme, schemes))
    names = [option.partition("=")[0] for option in options.split("&")] if options else []
    values = options_of(options)
    known = _KNOWN.get(scheme, names)
    for name in names:
        if name not in known:
            expected = nearest(name, known) if known else "none, and %3F for a question mark of the path itself"
            raise InputError(f"a URI of this kind has no option {name!r}", item=item, expected=expected)
        if names.count(name) > 1 or not values[name]:
            got = "several" if values[name] else "none"
            raise InputError(f"the option {name!r}", item=item, expected="one value", got=got)
    for name in _wrong_for_s3(values) if scheme == "s3" else ():
        raise InputError(f"the option {name!r}", item=item, expected=_S3[name], got=values[name])


def refuse_credentials(uri: str) -> None:
    """Refuse a URI that holds a key or a password, without repeating it.

    Raises:
        InputError: if it does.
    """
    scheme, _, rest = uri.partition("://")
    user, at, _ = re.split("[/?]", rest, maxsplit=1)[0].rpartition("@")
    if at and user == "anonymous":
        expected = "s3://bucket/folder?anonymous=true" if scheme.lower() == "s3" else "a key; it cannot be read without"
        raise InputError("a URI has no user", item=f"{scheme}://anonymous@...", expected=expected)
    # Azure's have the container there: abfss://container@account.dfs.core.windows.net/folder
    has_user = bool(at) and (scheme.lower() not in ("abfs", "abfss") or ":" in user)
    options = [option.partition("=") for option in re.split("[?&;]", unquote(rest).partition("?")[2])]
    has_secret = any(mark and word in name.lower() for name, mark, _ in options for word in _SECRETS)
    if has_user or has_secret or any("@" in value for name, _, value in options if name.startswith("endpoint")):
        raise InputError(
            "credentials in a URI end up in logs; give them by the environment, a profile or a role",
            item=f"{scheme}://...",
        )


def _wrong_for_s3(values: Mapping[str, str]) -> list[str]:
    """The names of the options whose values cannot be meant."""
    override, schemes = values.get("endpoint_override", ""), ("http", "https")
    wrong = []
    if values.get("anonymous", "true") not in ("true", "false"):
        wrong.append("anonymous")
    if "endpoint_url" in values and (override or values["endpoint_url"].partition("://")[0] not in schemes):
        wrong.append("endpoint_url")
    if "://" in override and override.partition("://")[0] not in schemes:
        wrong.append("endpoint_override")
    # Beside nothing, or beside another one, it would be passed over.
    if "scheme" in values and (values["scheme"] not in schemes or not override or "://" in override):
        wrong.append("scheme")
    return wrong
