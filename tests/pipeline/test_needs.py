"""What a job needs and the experiment leaves out is asked for before any work, with the lines to add."""

import pytest
import yaml

from stl_ray.config.help import JOBS
from stl_ray.errors import ConfigError
from stl_ray.pipeline import project
from stl_ray.pipeline.classifiers import scored
from stl_ray.pipeline.preflight import preflight

TEST = {"test": {"format": "photographs"}}
TRAIN = {"train": {"format": "photographs"}}
MINE = {"name": "mine", "architecture": "small_cnn", "weights": "mine.safetensors"}
JPEG = [{"name": "jpeg", "defense": "jpeg"}]
STL = [{"name": "stl", "defense": "stl"}]
FITTED = [{"name": "natural"}]
GIVEN = [{"name": "authors", "load": "4_p5_lm0.2.npy"}]
MAGNET = [{"name": "reformer", "defense": "magnet", "options": {"load": "elsewhere"}}]
REFORMER = [{**MAGNET[0], "options": {"load": "elsewhere", "refuse": False}}]
LID = [{"name": "lid", "defense": "lid"}]
AWARE = {"sets": [{"name": "one", "attack": "fgsm", "linf": 8, "victim": {"defense": "reformer"}}]}
UAP = {"sets": [{"name": "one", "attack": "uap", "linf": 8}]}


def _asked(experiment, *jobs):
    with pytest.raises(ConfigError) as error:
        preflight(experiment, *jobs)
    return str(error.value)


@pytest.mark.parametrize("defenses", [[], JPEG])
def test_test_images_and_a_classifier_as_it_is_are_enough(experiment_of, defenses):
    experiment = experiment_of(ingest=TEST, classifiers=[MINE], defenses=defenses)
    preflight(experiment, "ingest", "fit", "train", "attack", "evaluate", "report")


@pytest.mark.parametrize(("jobs", "defenses"), [(["evaluate"], REFORMER), (["fit", "attack"], MAGNET)])
def test_without_a_detector_or_a_say_of_it_no_training_images_are_needed(experiment_of, jobs, defenses):
    preflight(experiment_of(ingest=TEST, classifiers=[MINE], defenses=defenses), *jobs)


def test_a_space_from_elsewhere_needs_no_training_images(experiment_of):
    experiment = experiment_of(ingest=TEST, classifiers=[MINE], defenses=STL, spaces=GIVEN)
    preflight(experiment, "ingest", "fit", "attack", "evaluate", "report")


@pytest.mark.parametrize(
    ("job", "sections", "reasons"),
    [
        ("fit", {"spaces": FITTED}, ["the space natural;", "or load it: `spaces: [{name: natural, load: FILE.npy}]`"]),
        ("evaluate", {"spaces": FITTED, "defenses": STL}, ["the space natural;", "or load it"]),
        ("project", {"defenses": JPEG, "classifiers": [{**MINE, "retrain": {}}]}, ["mine retrained for jpeg;"]),
        (
            "train",
            {"classifiers": [{"name": "net", "architecture": "small_cnn"}]},
            ["the classifier net;", "weights: FILE"],
        ),
        ("train", {"classifiers": [{**MINE, "retrain": {}}], "defenses": JPEG}, ["mine retrained for jpeg;"]),
        ("attack", {"classifiers": [{"name": "net", "architecture": "small_cnn"}]}, ["the classifier net;"]),
        (
            "evaluate",
            {"defenses": MAGNET},
            ["the detector of reformer, which is calibrated on them;", "or leave its detectors out: `refuse: false`"],
        ),
        ("evaluate", {"defenses": LID}, ["the detector of lid, which is calibrated on them;"]),
        ("attack", {"defenses": MAGNET, "attack": AWARE}, ["the detector of reformer"]),
        ("attack", {"attack": UAP}, ["the attack set one, whose one vector is made from them;"]),
    ],
)
def test_refuses_what_is_made_from_training_images_where_there_are_none(experiment_of, job, sections, reasons):
    experiment = experiment_of(**{"ingest": TEST, "classifiers": [MINE], **sections})
    said = _asked(experiment, job)
    assert said.startswith("ingest.train: there are no training images for ")
    for reason in reasons:
        assert reason in said
    preflight(experiment, "ingest")  # which needs none
    preflight(experiment.model_copy(update={"ingest": experiment_of().ingest}), job)


def test_only_the_defense_in_front_of_a_victim_is_needed_by_attack(experiment_of):
    sets = [{"name": "x", "attack": "fgsm", "dissimilarity": 0.1}]
    experiment = experiment_of(ingest=TEST, classifiers=[MINE], defenses=STL, spaces=FITTED, attack={"sets": sets})
    preflight(experiment, "attack")
    sets[0]["victim"] = {"defense": "stl"}
    other = experiment_of(ingest=TEST, classifiers=[MINE], defenses=STL, spaces=FITTED, attack={"sets": sets})
    assert "no training images for the space natural" in _asked(other, "attack")


@pytest.mark.parametrize("job", ["attack", "evaluate"])
def test_refuses_to_attack_and_score_without_test_images(experiment_of, job):
    experiment = experiment_of(ingest=TRAIN)
    assert _asked(experiment, job).startswith(f"ingest.test: `{job}` works on test images, and there are none; add\n")
    preflight(experiment, "fit", "project", "train", "report")
    preflight(experiment_of(ingest=TRAIN, project={"splits": ["test"]}), "project")  # without a defense
    purified = experiment_of(ingest=TRAIN, project={"splits": ["test"]}, defenses=JPEG)
    assert _asked(purified, "project").startswith("ingest.test: ")


def test_nothing_is_purified_where_nothing_is_retrained_on_it_and_there_are_no_training_images(experiment_of):
    experiment = experiment_of(ingest=TEST, classifiers=[MINE], defenses=JPEG)
    preflight(experiment, *JOBS)
    assert project.run(experiment)["summary"] == "nothing to purify, there are no images of project.splits"


@pytest.mark.parametrize("job", ["train", "attack", "evaluate"])
def test_refuses_to_train_attack_and_score_without_classifiers(experiment_of, job):
    experiment = experiment_of(classifiers=[])
    assert _asked(experiment, job).startswith(f"classifiers: `{job}` needs a classifier, and none is listed; add\n")
    preflight(experiment, "ingest", "fit", "project")
    unscored = experiment_of(classifiers=[{"name": "start", "architecture": "small_cnn", "scored": False}])
    if job == "train":
        preflight(unscored, job)
    else:
        assert "all have `scored: false`" in _asked(unscored, job)
    # Whoever asks without a look at what it needs: no other job is blamed.
    for lacking, said in (
        (experiment, "a classifier is needed, and none is listed; add"),
        (unscored, "that is scored is needed"),
    ):
        with pytest.raises(ConfigError, match=f"^classifiers: .*{said}"):
            scored(lacking)


def test_refuses_to_ingest_nothing(experiment_of):
    assert _asked(experiment_of(ingest={}), "ingest").startswith("ingest: there is nothing to ingest; add\n")


def test_all_that_is_missing_is_in_one_error_and_the_lines_to_add_mend_it(experiment_of):
    experiment = experiment_of(ingest={}, classifiers=[], defenses=STL, spaces=FITTED)
    said = _asked(experiment, "ingest", "fit", "project", "train", "attack", "evaluate", "report")
    first, *rest = said.splitlines()
    assert first == "4 keys are missing:"
    keys = [line.strip().partition(":")[0] for line in rest if line.startswith("  ") and not line.startswith("   ")]
    wanted = ["ingest", "classifiers", "ingest.test", "ingest.train"]
    assert [key for key in keys if not key.startswith("or ")] == wanted
    added = yaml.safe_load("\n".join(line[4:] for line in rest[1:4]))
    mended = experiment_of(**added, defenses=STL, spaces=FITTED)
    preflight(mended, "ingest", "fit", "project", "train", "attack", "evaluate", "report")


def test_refuses_a_defense_that_needs_a_space_where_none_is_listed(experiment_of):
    with pytest.raises(ConfigError, match=r"stl\.space: .*`spaces: \[\{name: natural\}\]`, fitted here .*load: FILE"):
        preflight(experiment_of(defenses=STL))
