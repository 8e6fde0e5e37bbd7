"""Identities: whatever can change a result. Results of different identities are never mixed."""

import json
import socket
from collections.abc import Mapping
from typing import Any

from stl_ray.errors import RunIdentityError
from stl_ray.store.filesystem import canonical_json


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], where: object) -> None:
    """Refuse a result that was made under another identity.

    Args:
        found: the identity on record.
        wanted: the identity asked for; compared as JSON.
        where: the folder of the result.

    Raises:
        RunIdentityError: with the keys that differ, nested ones joined by dots.
    """
    wanted = json.loads(canonical_json(wanted))
    if found != wanted:
        raise RunIdentityError(
            "made with other settings or inputs before; give another root, or remove the folder to make it anew",
            item=where,
            expected=_difference(found, wanted),
            got=_difference(wanted, found),
        )


def require_planned(planned: Mapping[str, Any], here: Mapping[str, Any], run: str) -> None:
    """Refuse what a worker has loaded where it is not what the driver planned the run with.

    Args:
        planned: entries of the run's identity.
        here: the same entries, of what is loaded here; both are compared as JSON.
        run: the folder of the run.

    Raises:
        RunIdentityError: with this node and the keys that differ; other sources of a user's module have its name there.
    """
    planned, here = json.loads(canonical_json(planned)), json.loads(canonical_json(here))
    if planned != here:
        raise RunIdentityError(
            f"the node {socket.gethostname()} has other inputs, or another version of a module, than the driver",
            item=run,
            expected=_difference(planned, here),
            got=_difference(here, planned),
        )


def _difference(identity: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `identity` that `other` lacks or has otherwise."""
    flat, flat_other = _flatten(identity), _flatten(other)
    return {key: value for key, value in flat.items() if key not in flat_other or flat_other[key] != value}


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat.update(_flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat
