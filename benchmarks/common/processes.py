"""Processes that measure: from a fork server that has imported everything and computed nothing."""

import multiprocessing
from typing import Any


def fresh_processes(*modules: str) -> Any:
    """A context of multiprocessing whose processes come with some modules; where nothing can be forked, they import them.

    What a process allocates is its own.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(modules))
    return context
