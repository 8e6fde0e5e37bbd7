from unittest.mock import MagicMock

from ray.exceptions import RayActorError

from stl_ray.errors import TrainingError
from stl_ray.runtime import progress_actor
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import Board, Posts


def test_identity_what_is_reached_counts_once_and_goes_back():
    board = Board()
    board.reach("vanilla", 10, "one")
    board.reach("retrained", 5, "two")
    board.reach("vanilla", 25, "three")
    assert board.take() == (0, {"vanilla": 25, "retrained": 5}, "three")
    board.reach("vanilla", 20, "it died, and goes on from its checkpoint")
    board.post(7, "")
    assert board.take()[:2] == (7, {"vanilla": 20, "retrained": 5})
    assert board.take()[:2] == (0, {"vanilla": 20, "retrained": 5})


def test_invariant_the_driver_counts_what_is_reached_once_though_the_board_forgets(monkeypatch):
    """Also back, where a training goes on from its checkpoint, and through a board that is away and starts anew."""
    answers = [
        (3, {"vanilla": 10}, "a"), (0, {"vanilla": 25, "other": 5}, "b"), RayActorError(), (0, {}, ""),
        (0, {"vanilla": 20}, "back"), (0, {"vanilla": 40, "other": 6}, "c"),
    ]  # fmt: skip

    def get(reference):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(progress_actor.ray, "get", get)
    progress, posts = JobProgress("train", 100), Posts(MagicMock())
    while answers:
        posts.draw(progress)
    assert progress.done == 3 + 40 + 6


def test_identity_the_first_failure_is_kept():
    board = Board()
    assert board.failure("vanilla") is None
    board.fail("vanilla", TrainingError("first"))
    board.fail("vanilla", TrainingError("second"))
    assert board.failure("vanilla").message == "first" and board.failure("retrained") is None
