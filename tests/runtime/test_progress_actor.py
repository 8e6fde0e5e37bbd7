from stl_ray.errors import TrainingError
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import Board, Posts


def test_identity_what_is_reached_counts_once_and_goes_back():
    board = Board()
    board.resume("vanilla", 10, "one")
    board.reach("retrained", 5, "two")
    board.reach("vanilla", 25, "three")
    assert board.take() == (0, {"vanilla": 10}, {"vanilla": 25, "retrained": 5}, "three")
    board.resume("vanilla", 20, "it died, and goes on from its checkpoint")
    board.post(7, "")
    assert board.take()[:3] == (7, {"vanilla": 10}, {"vanilla": 20, "retrained": 5})
    assert board.take()[:3] == (0, {"vanilla": 10}, {"vanilla": 20, "retrained": 5})


def test_invariant_the_driver_counts_what_is_reached_once_though_the_board_forgets():
    """Also back, where a training resumes from its checkpoint, and of a board that died and started anew."""
    progress, posts = JobProgress("train", 100), Posts(None)
    posts.count(progress, 3, {"vanilla": 10}, {"vanilla": 10}, "a")
    posts.count(progress, 0, {"vanilla": 10}, {"vanilla": 25, "other": 5}, "b")
    assert progress.done == 3 + 25 + 5
    posts.count(progress, 0, {}, {}, "")
    posts.count(progress, 0, {"vanilla": 20}, {"vanilla": 20}, "back")
    assert progress.done == 3 + 20 + 5
    posts.count(progress, 0, {"vanilla": 20}, {"vanilla": 40, "other": 6}, "c")
    assert progress.done == 3 + 40 + 6


def test_identity_the_first_failure_is_kept():
    board = Board()
    assert board.failure("vanilla") is None
    board.fail("vanilla", TrainingError("first"))
    board.fail("vanilla", TrainingError("second"))
    assert board.failure("vanilla").message == "first" and board.failure("retrained") is None
