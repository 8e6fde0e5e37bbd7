import pytest

from stl_ray.errors import ConfigError
from stl_ray.pipeline.preflight import preflight


def _named(experiment_of, defenses, sets):
    return experiment_of(
        defenses=[{"name": name, "defense": "jpeg"} for name in defenses],
        attack={"sets": [{"name": name, "attack": "fgsm", "dissimilarity": 0.1} for name in sets]},
    )


@pytest.mark.parametrize(
    ("defenses", "sets", "folder"),
    [
        (("a", "a-on-b"), ("b-on-c", "c"), "evaluate/CLASSIFIER/a-on-b-on-c"),
        (("none-on-b",), ("b-on-c", "c"), "evaluate/CLASSIFIER/none-on-b-on-c"),
        (("a", "a-on-b"), ("b-under-attack",), "evaluate/CLASSIFIER/a-on-b-under-attack"),
        (("a", "a-on-b"), ("b-under-checks",), "evaluate/CLASSIFIER/a-on-b-under-checks"),
    ],
)
def test_refuses_names_that_give_two_runs_one_folder(experiment_of, defenses, sets, folder):
    with pytest.raises(ConfigError, match=f"^{folder}: two would have this folder; expected other names of"):
        preflight(_named(experiment_of, defenses, sets))


def test_names_with_the_same_words_in_them_are_fine(experiment_of):
    preflight(_named(experiment_of, ("a-on-b", "on", "x-on-"), ("c", "on", "under-attack", "a-on-b")))


def test_refuses_a_wrong_option_by_the_name_of_its_row(experiment_of):
    named = [("jpeg-q50", 50), ("jpeg-q500", 500)]
    defenses = [{"name": name, "defense": "jpeg", "options": {"quality": quality}} for name, quality in named]
    with pytest.raises(ConfigError, match=r"^jpeg-q500: jpeg\.quality: wrong option; .*; got 500$"):
        preflight(experiment_of(defenses=defenses))
    sets = [{"name": "a-s5", "attack": "pgd", "dissimilarity": 0.1, "options": {"steps": "x"}}]
    with pytest.raises(ConfigError, match=r"^a-s5: pgd\.steps: wrong option"):
        preflight(experiment_of(attack={"sets": sets}))


def test_refuses_to_retrain_a_function_with_weights_of_its_own_from_scratch(experiment_of):
    def checked(**keys):
        theirs = {"name": "theirs", "architecture": "torch.nn:Identity", **keys}
        preflight(experiment_of(defenses=[{"name": "jpeg", "defense": "jpeg"}], classifiers=[theirs]))

    with pytest.raises(ConfigError, match=r"^theirs: .* from scratch; expected retrain: \{start: theirs\}"):
        checked(retrain={})
    checked(retrain={"start": "theirs"})
    checked(retrain={}, recipe={})
