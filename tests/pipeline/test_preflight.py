import pytest

from stl_ray.config.help import JOBS
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


def test_refuses_to_begin_with_another_network(experiment_of):
    one = {"name": "one", "architecture": "small_cnn", "retrain": {"start": "two"}}
    two = {"name": "two", "architecture": "cifar_resnet20"}
    with pytest.raises(ConfigError, match=r"^one\.retrain\.start: .*another network; .* got two, cifar_resnet20"):
        preflight(experiment_of(classifiers=[one, two]))


def test_refuses_to_retrain_a_function_with_weights_of_its_own_from_scratch(experiment_of):
    def checked(**keys):
        theirs = {"name": "theirs", "architecture": "torch.nn:Identity", **keys}
        preflight(experiment_of(defenses=[{"name": "jpeg", "defense": "jpeg"}], classifiers=[theirs]))

    with pytest.raises(ConfigError, match=r"^theirs: .* from scratch; expected retrain: \{start: theirs\}"):
        checked(retrain={})
    checked(retrain={"start": "theirs"})
    checked(retrain={}, recipe={})


RETRAINED = {"name": "mine", "architecture": "small_cnn", "retrain": {"defenses": ["jpeg"]}}


def _classifiers(experiment_of, *classifiers, defenses=("jpeg", "mild"), **victim):
    sets = [{"name": "set", "attack": "fgsm", "dissimilarity": 0.1, "victim": victim}]
    return experiment_of(
        classifiers=list(classifiers),
        defenses=[{"name": name, "defense": "jpeg"} for name in defenses],
        attack={"sets": sets},
    )


@pytest.mark.parametrize(
    ("keys", "victim", "message"),
    [
        ({"architecture": "small_cn"}, {}, r"small_cn: unknown classifier; expected 'small_cnn'\?"),
        (
            {"retrain": {"start": "mien"}},
            {},
            r"mien: unknown classifier to begin with \(or scratch\); expected 'mine'\?",
        ),
        ({"retrain": {"defenses": ["mlid"]}}, {}, r"mlid: unknown defense of this experiment; expected 'mild'\?"),
        ({}, {"classifier": "miner"}, r"miner: unknown classifier to attack; expected 'mine'\?"),
        ({}, {"defense": "jpg"}, r"jpg: unknown defense of this experiment; expected 'jpeg'\?"),
        ({}, {"retrained_for": "jpge"}, r"jpge: unknown defense of this experiment; expected 'jpeg'\?"),
        (
            {},
            {"retrained_for": "mild"},
            r"set: the classifier to attack, mine, is not retrained for mild; expected its key `retrain`, with that defense",
        ),
        ({"retrain": None}, {"classifier": "mine", "retrained_for": "jpeg"}, "mine, is not retrained for jpeg"),
    ],
)
def test_refuses_names_of_classifiers_and_defenses_that_do_not_fit(experiment_of, keys, victim, message):
    with pytest.raises(ConfigError, match=message):
        preflight(_classifiers(experiment_of, {**RETRAINED, **keys}, **victim))


def test_what_fits_is_taken(experiment_of):
    """A surrogate need not be retrained for what only the scored ones are attacked for, and one may start as another."""
    surrogate = {"name": "surrogate", "architecture": "resnet18_small", "scored": False}
    preflight(_classifiers(experiment_of, RETRAINED, surrogate, retrained_for="jpeg"))
    preflight(_classifiers(experiment_of, RETRAINED, surrogate, classifier="surrogate", defense="mild"))
    fine_tuned = {**RETRAINED, "retrain": {"start": "first"}}
    preflight(_classifiers(experiment_of, {"name": "first", "architecture": "small_cnn"}, fine_tuned))


def test_refuses_a_victim_that_only_one_of_the_scored_classifiers_can_be(experiment_of):
    plain = {"name": "plain", "architecture": "small_cnn"}
    with pytest.raises(ConfigError, match=r"^set: the classifier to attack, plain, is not retrained for jpeg"):
        preflight(_classifiers(experiment_of, RETRAINED, plain, retrained_for="jpeg"))
    preflight(_classifiers(experiment_of, RETRAINED, plain, classifier="mine", retrained_for="jpeg"))


def test_refuses_classifiers_that_would_share_a_folder(experiment_of):
    """Of a classifier that is retrained for a defense, and one that is called so."""
    other = {"name": "mine-for-jpeg", "architecture": "small_cnn"}
    with pytest.raises(ConfigError, match=r"^train/mine-for-jpeg: two would have this folder; expected other names of"):
        preflight(_classifiers(experiment_of, RETRAINED, other))
    preflight(_classifiers(experiment_of, {**RETRAINED, "retrain": {"defenses": ["mild"]}}, other))


PD = {"name": "pd", "defense": "pixel_deflection"}


def test_refuses_a_defense_that_looks_with_a_classifier_which_is_not_known(experiment_of):
    networks = [{"name": name, "architecture": "small_cnn"} for name in ("wide", "narrow")]
    preflight(experiment_of(defenses=[PD], classifiers=networks[:1]))
    preflight(experiment_of(defenses=[{**PD, "options": {"classifier": "wide"}}], classifiers=networks))
    preflight(experiment_of(defenses=[{**PD, "options": {"map": "none"}}]))
    for classifiers, options, message in (
        (networks, {}, "it is not said which classifier it takes; expected one of narrow, wide"),
        ([], {}, "it is not said which classifier it takes; expected an entry of classifiers"),
        (networks, {"classifier": "wid"}, r"no classifier of this experiment; expected 'wide'\?"),
    ):
        with pytest.raises(ConfigError, match=rf"^pd\.classifier: {message}"):
            preflight(experiment_of(defenses=[{**PD, "options": options}], classifiers=classifiers))


def test_refuses_to_look_with_what_is_trained_here_where_others_wait_for_the_images(experiment_of):
    looking = {"name": "looking", "architecture": "small_cnn"}
    mine = {"name": "mine", "architecture": "small_cnn", "retrain": {}}
    defense = {**PD, "options": {"classifier": "looking"}}
    with pytest.raises(ConfigError, match=r"^pd\.classifier: .* mine waits to be retrained .*; expected a classifier"):
        preflight(experiment_of(defenses=[defense], classifiers=[looking, mine]))
    preflight(experiment_of(defenses=[defense], classifiers=[{**looking, "weights": "/w.pt"}, mine]))
    preflight(experiment_of(defenses=[defense], classifiers=[looking]))
    preflight(experiment_of(defenses=[defense], classifiers=[looking]), "project")
    with pytest.raises(ConfigError, match=r"^pd\.classifier: .* `project` comes before `train`"):
        preflight(experiment_of(defenses=[defense], classifiers=[looking]), *JOBS)


def test_refuses_to_fit_with_a_classifier_that_is_trained_here(experiment_of):
    looking = {"name": "looking", "architecture": "small_cnn"}
    defense = {"name": "d3", "defense": "d3", "options": {"classifier": "looking"}}
    with pytest.raises(
        ConfigError, match=r"^d3\.classifier: .* training comes after fitting; expected a classifier with"
    ):
        preflight(experiment_of(defenses=[defense], classifiers=[looking]))
    preflight(experiment_of(defenses=[defense], classifiers=[{**looking, "weights": "/w.pt"}]))
    loaded = {**defense, "options": {"classifier": "looking", "load": "/elsewhere"}}
    preflight(experiment_of(defenses=[loaded], classifiers=[looking]))
    with pytest.raises(ConfigError, match=r"^d3\.classifier: no classifier"):
        preflight(experiment_of(defenses=[{**defense, "options": {"classifier": "lookin"}}], classifiers=[looking]))


def test_refuses_a_member_of_an_ensemble_that_refuses_images(experiment_of):
    def checked(refuse: bool) -> None:
        magnet = {"name": "reformer", "defense": "magnet", "options": {"refuse": refuse}}
        both = {"name": "both", "defense": "ensemble", "options": {"of": ["none", "reformer"]}}
        preflight(experiment_of(defenses=[magnet, both]))

    checked(refuse=False)
    with pytest.raises(ConfigError, match="a member of an ensemble cannot refuse images") as caught:
        checked(refuse=True)
    assert caught.value.item == "reformer of both"
