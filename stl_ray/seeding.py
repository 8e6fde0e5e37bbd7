"""Seeds from (run seed, item, purpose), never from the clock, the batch or the order of work."""

import hashlib
from collections.abc import Sequence


def seed_of(run_seed: int, item: str, purpose: str) -> int:
    """A 63-bit seed that depends on nothing but its arguments.

    Args:
        run_seed: the experiment's seed.
        item: the image id, or the name of the thing that is being made.
        purpose: what the random numbers are for, so that two uses never share a stream.
    """
    text = f"{run_seed}\x1f{item}\x1f{purpose}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def seeds_of(run_seed: int, items: Sequence[str], purpose: str) -> list[int]:
    """`seed_of` every item."""
    return [seed_of(run_seed, item, purpose) for item in items]
