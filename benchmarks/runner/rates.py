"""Images per second, and CPU time per image, from the times at which pieces of work were done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """A piece of work that is done.

    Attributes:
        worker: the process that did it.
        at: when, seconds.
        images: in it.
    """

    worker: str
    at: float
    images: int


@dataclass(frozen=True)
class Timeline:
    """A whole run.

    Attributes:
        done: its pieces, in any order.
        began: when it was asked for, seconds by the clock of `done`.
        ended: when everything was done and checked.
        in_hand: pieces that a worker has in hand at a time.
        cores: how many of the machine's were busy from beginning to end, whoever kept them so.
        workers: of these, how many the workers used between starting and running out of work.
        others: and how many all other processes of the run.
    """

    done: Sequence[Done]
    began: float
    ended: float
    in_hand: int
    cores: float
    workers: float
    others: float

    @property
    def images(self) -> int:
        """In all pieces."""
        return sum(piece.images for piece in self.done)

    @property
    def whole(self) -> float:
        """Images per second from the beginning to the end."""
        return self.images / (self.ended - self.began)

    @property
    def steady(self) -> float:
        """Images per second between starting and running out of work, over all workers (see `steady_rate`)."""
        return steady_rate(self.done, self.in_hand)

    @property
    def cpu(self) -> float:
        """CPU seconds of the workers for an image."""
        return self.workers / self.steady

    @property
    def first(self) -> float:
        """Seconds from the beginning to the first piece."""
        return min(piece.at for piece in self.done) - self.began

    @property
    def last(self) -> float:
        """Seconds from the last piece to the end."""
        return self.ended - max(piece.at for piece in self.done)


def steady_rate(done: Sequence[Done], in_hand: int) -> float:
    """Images per second, summed over workers.

    A worker's own rate is taken from its first piece to the last one after which it still had as many pieces in hand as
    at its first: pieces that are partly done then are so at both ends, and count neither way.

    Raises:
        ValueError: a worker has done too few pieces for that.
    """
    windows = [steady_pieces(pieces, in_hand) for pieces in by_worker(done)]
    return sum(sum(p.images for p in window[1:]) / (window[-1].at - window[0].at) for window in windows)


def steady_window(done: Sequence[Done], in_hand: int) -> tuple[float, float]:
    """The times between which all workers were at it.

    Raises:
        ValueError: as for `steady_rate`.
    """
    windows = [steady_pieces(pieces, in_hand) for pieces in by_worker(done)]
    return max(window[0].at for window in windows), min(window[-1].at for window in windows)


def cores_used(used: Mapping[str, float], seconds: float, done: Sequence[Done]) -> tuple[float, float]:
    """Cores that the workers used, and all others.

    Args:
        used: CPU seconds of every process.
        seconds: in which they were used.
        done: pieces of all workers.
    """
    own = sum(used.get(worker, 0.0) for worker in {piece.worker for piece in done})
    return own / seconds, (sum(used.values()) - own) / seconds


def by_worker(done: Sequence[Done]) -> list[list[Done]]:
    """The pieces of every worker, in the order of time."""
    ordered = sorted(done, key=lambda piece: piece.at)
    return [[piece for piece in ordered if piece.worker == name] for name in sorted({p.worker for p in done})]


def steady_pieces(pieces: list[Done], in_hand: int) -> list[Done]:
    """Those of a worker's pieces after which it had as many in hand as after its first.

    Raises:
        ValueError: there are none.
    """
    window = pieces[: len(pieces) - in_hand + 1]
    if len(window) < 2:
        raise ValueError(f"{len(pieces)} pieces by one worker say nothing of its rate; give it more work")
    return window
