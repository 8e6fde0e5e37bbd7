from stl_ray.errors import TrainingError
from stl_ray.stages.board import Board


def test_identity_what_is_reached_counts_once_and_goes_back():
    board = Board()
    board.reach("vanilla", 10, "one")
    board.reach("retrained", 5, "two")
    board.reach("vanilla", 25, "three")
    assert board.take() == (30, "three")
    board.reach("vanilla", 20, "it died, and goes on from its checkpoint")
    assert board.take()[0] == -5
    board.reach("vanilla", 40, "")
    board.post(7, "")
    assert board.take()[0] == 27


def test_identity_the_first_failure_is_kept():
    board = Board()
    assert board.failure("vanilla") is None
    board.fail("vanilla", TrainingError("first"))
    board.fail("vanilla", TrainingError("second"))
    assert board.failure("vanilla").message == "first" and board.failure("retrained") is None
