"""Grids: rows are the entries that would have been written by hand, and what is no grid is refused by its place."""

import json
from itertools import product

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from stl_ray.config import Experiment, load_experiment
from stl_ray.config.base import Name, OptionValue, Section
from stl_ray.config.grid import expand
from stl_ray.config.help import explain_keys
from stl_ray.errors import ConfigError

MINIMAL = {
    "name": "test",
    "root": "/r",
    "ingest": {"train": {"format": "photographs"}, "test": {"format": "photographs"}},
}


class Dictionary(Section):
    filters: int = 64
    lmbda: float = 0.2
    candidates: tuple[int, ...] = (1, 2)


class Space(Section):
    name: Name
    load: str | None = None
    clusters: int = 4
    dictionary: Dictionary | None = Dictionary()


class Defense(Section):
    name: Name
    defense: str
    options: dict[str, OptionValue] = Field({})


class Parts(Section):
    """A configuration of lists that refer to each other."""

    spaces: tuple[Space, ...] = ()
    defenses: tuple[Defense, ...] = ()
    classifiers: tuple[dict, ...] = ()


@pytest.fixture
def load(tmp_path):
    def load(*overrides, **keys) -> Experiment:
        file = tmp_path / "c.yaml"
        file.write_text(yaml.safe_dump({**MINIMAL, **keys}, sort_keys=False))
        return load_experiment(str(file), overrides)

    return load


def parts(**lists) -> dict:
    return expand(lists, Parts).values


def test_rows_come_in_the_order_of_the_lists_and_the_last_key_varies_fastest():
    grid = {"lmbda": [0.2, 0.1], "accuracy": ["exact", "default"]}
    entries = [
        {"name": "jpeg", "defense": "jpeg"},
        {"name": "stl", "defense": "stl", "options": {"space": "s"}, "grid": grid},
        {"name": "last", "defense": "jpeg"},
    ]
    rows = parts(defenses=entries)["defenses"]
    assert [row["name"] for row in rows] == [
        "jpeg", "stl-l0.2-aexact", "stl-l0.2-adefault", "stl-l0.1-aexact", "stl-l0.1-adefault", "last",
    ]  # fmt: skip
    assert rows[2]["options"] == {"space": "s", "lmbda": 0.2, "accuracy": "default"}


def test_the_values_that_were_read_stay_as_they_are():
    values = {"attack": {"sets": [{"name": "a", "attack": "pgd", "grid": {"dissimilarity": [0.1, 0.2]}}]}}
    given = json.dumps(values)
    assert len(expand(values, Experiment).values["attack"]["sets"]) == 2
    assert json.dumps(values) == given


# Keys of an attack set by where they lie, with values that are all possible together.
_KEYS = {
    ("dissimilarity",): st.floats(1e-9, 1),
    ("space",): st.sampled_from(["pixel", "standardized"]),
    ("victim", "samples"): st.integers(1, 10**20),
    ("options", "steps"): st.integers(1, 100),
    ("options", "restarts"): st.integers(1, 100),
    ("options", "size"): st.floats(1e-300, 1e300) | st.booleans() | st.text("ab.+ /é日", max_size=5),
}


def _written(path: tuple[str, ...]) -> str:
    return path[-1] if path[0] == "options" else ".".join(path)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_identity_a_grid_is_the_configuration_that_is_written_out(data, tmp_path_factory):
    keys = data.draw(st.lists(st.sampled_from(list(_KEYS)), unique=True, min_size=1, max_size=4))
    axes = [data.draw(st.lists(_KEYS[key], unique=True, min_size=1, max_size=3)) for key in keys]
    fixed = {} if ("dissimilarity",) in keys else {"dissimilarity": 0.08}
    entry = {"name": "a", "attack": "pgd", **fixed}
    folder = tmp_path_factory.mktemp("grid")

    def load(name: str, sets: list) -> Experiment:
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**MINIMAL, "attack": {"sets": sets}}, sort_keys=False))
        return load_experiment(str(file))

    try:
        made = load("grid", [{**entry, "grid": dict(zip(map(_written, keys), axes, strict=True))}])
    except ConfigError as error:
        # Texts with the same letters but for those that no name can have.
        assert "have one name" in str(error)
        return
    by_hand = []
    for row, values in zip(made.attack.sets, product(*axes), strict=True):
        one = {**entry, "name": row.name}
        for path, value in zip(keys, values, strict=True):
            section = one if len(path) == 1 else one.setdefault(path[0], {})
            section[path[-1]] = value
        by_hand.append(one)
    hand = load("hand", by_hand)
    assert made == hand
    assert made.model_dump_json() == hand.model_dump_json()


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ({"steps": [1, 10]}, ["-s1", "-s10"]),
        ({"steps": [5], "size": [0.5], "sizes": [2]}, ["-st5-size0.5-sizes2"]),
        ({"clip": [True, False]}, ["-ctrue", "-cfalse"]),
        ({"size": [1e-5, 1e16, -2.0]}, ["-s1e-05", "-s1e16", "-s-2.0"]),
        ({"file": ["/data/a b.npy", "é"]}, ["-f-data-a-b.npy", "-f-"]),
        ({"lmbda": ["0.1"]}, ["-l0.1"]),
    ],
)
def test_names_of_rows(grid, names):
    rows = parts(defenses=[{"name": "d", "defense": "stl", "grid": grid}])["defenses"]
    assert [row["name"] for row in rows] == [f"d{name}" for name in names]


def test_names_have_the_beginning_of_a_keys_last_part():
    grid = {"dictionary.lmbda": [0.1], "clusters": [2], "load": ["x"]}
    (row,) = parts(spaces=[{"name": "s", "grid": grid}])["spaces"]
    assert row == {"name": "s-lm0.1-c2-lox", "dictionary": {"lmbda": 0.1}, "clusters": 2, "load": "x"}


def test_a_defense_has_a_row_for_each_of_the_spaces_that_it_names():
    spaces = [
        {"name": "natural", "dictionary": {"filters": 8}, "grid": {"dictionary.lmbda": [0.1, 0.2]}},
        {"name": "authors", "load": "x.npy"},
    ]
    defenses = [
        {"name": "stl", "defense": "stl", "options": {"space": "natural"}},
        {"name": "own", "defense": "stl", "options": {"space": "natural"}, "grid": {"lmbda": [3, 4]}},
        {"name": "all", "defense": "stl", "grid": {"space": ["natural", "authors"]}},
        {"name": "one", "defense": "stl", "options": {"space": "natural-l0.2"}},
        {"name": "other", "defense": "stl", "options": {"space": "authors"}},
    ]
    made = parts(spaces=spaces, defenses=defenses)
    assert [space.get("dictionary") for space in made["spaces"]] == [
        {"filters": 8, "lmbda": 0.1},
        {"filters": 8, "lmbda": 0.2},
        None,
    ]
    assert [(row["name"], row["options"]) for row in made["defenses"]] == [
        ("stl-l0.1", {"space": "natural-l0.1"}),
        ("stl-l0.2", {"space": "natural-l0.2"}),
        ("own-l0.1-l3", {"space": "natural-l0.1", "lmbda": 3}),
        ("own-l0.1-l4", {"space": "natural-l0.1", "lmbda": 4}),
        ("own-l0.2-l3", {"space": "natural-l0.2", "lmbda": 3}),
        ("own-l0.2-l4", {"space": "natural-l0.2", "lmbda": 4}),
        ("all-snatural-l0.1", {"space": "natural-l0.1"}),
        ("all-snatural-l0.2", {"space": "natural-l0.2"}),
        ("all-sauthors", {"space": "authors"}),
        ("one", {"space": "natural-l0.2"}),
        ("other", {"space": "authors"}),
    ]


def test_a_list_of_defenses_has_the_rows_in_the_place_of_the_entry():
    defenses = [{"name": "stl", "defense": "stl", "grid": {"lmbda": [1, 2]}}, {"name": "jpeg", "defense": "jpeg"}]
    classifiers = [{"name": "c", "retrain": {"defenses": ["jpeg", "stl"]}}, {"name": "v", "grid": "of its own"}]
    made = parts(defenses=defenses, classifiers=classifiers)["classifiers"]
    assert made == [
        {"name": "c", "retrain": {"defenses": ["jpeg", "stl-l1", "stl-l2"]}},
        {"name": "v", "grid": "of its own"},
    ]


def test_an_attack_has_a_row_for_each_of_the_defenses_that_it_is_crafted_on(load):
    experiment = load(
        defenses=[{"name": "jpeg", "defense": "jpeg", "grid": {"quality": [50, 75]}}],
        attack={
            "sets": [
                {
                    "name": "p",
                    "attack": "pgd",
                    "dissimilarity": 0.1,
                    "victim": {"retrained_for": "jpeg", "defense": "jpeg"},
                },
                {"name": "f", "attack": "fgsm", "grid": {"dissimilarity": [0.04, 0.08]}},
            ]
        },
    )
    assert [defense.options for defense in experiment.defenses] == [{"quality": 50}, {"quality": 75}]
    victims = [(item.name, item.victim.retrained_for, item.victim.defense) for item in experiment.attack.sets]
    assert victims == [
        ("p-q50", "jpeg-q50", "jpeg-q50"),
        ("p-q75", "jpeg-q75", "jpeg-q75"),
        ("f-d0.04", None, None),
        ("f-d0.08", None, None),
    ]


def test_the_attacks_of_tiers_and_overrides_have_grids(load):
    tiers = {"attacks": [{"name": "pgd", "tier": "T4", "attack": "pgd"}]}
    experiment = load("evaluate.tiers.attacks.0.grid={steps: [5, 50]}", evaluate={"tiers": tiers})
    assert [(item.name, item.options) for item in experiment.evaluate.tiers.attacks] == [
        ("pgd-s5", {"steps": 5}),
        ("pgd-s50", {"steps": 50}),
    ]
    again = load("evaluate.tiers.attacks.0.grid.steps=[5, 50]", evaluate={"tiers": tiers})
    assert again == experiment
    assert load("defenses.0.grid=null", defenses=[{"name": "jpeg", "defense": "jpeg"}]).defenses[0].name == "jpeg"


def test_texts_stay_as_they_are_written(load):
    sets = [{"name": "a", "attack": "pgd", "dissimilarity": 0.1}]
    experiment = load("attack.sets.0.grid={victim.classifier: [1e3, 010]}", attack={"sets": sets})
    assert [item.name for item in experiment.attack.sets] == ["a-c1e3", "a-c010"]
    assert experiment.attack.sets[1].victim.classifier == "010"


SET = {"name": "a", "attack": "pgd", "dissimilarity": 0.1}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**SET, "grid": {"space": []}}, r"attack\.sets\.1\.grid\.space: not a list of values; .*got \[\]"),
        ({**SET, "grid": {"space": "pixel"}}, r"grid\.space: not a list of values; expected a list of one or more"),
        ({**SET, "grid": {}}, r"attack\.sets\.1\.grid: not a grid; expected keys with lists"),
        ({**SET, "grid": [1]}, r"attack\.sets\.1\.grid: not a grid"),
        ({**SET, "grid": {"steps": [1, None]}}, r"grid\.steps: not a single value; .*got None"),
        ({**SET, "grid": {"steps": [[1], [2]]}}, r"grid\.steps: not a single value; .*got \[1\]"),
        ({**SET, "grid": {"victim.sample": [1]}}, r"grid\.victim\.sample: unknown key; expected 'samples'\?"),
        ({**SET, "grid": {"victm.samples": [1]}}, r"grid\.victm\.samples: unknown key; expected 'victim'\?"),
        ({**SET, "grid": {"attack.x": ["a"]}}, r"grid\.attack\.x: unknown key; expected none"),
        ({**SET, "grid": {"victim.grid": [1]}}, r"grid\.victim\.grid: unknown key"),
        ({**SET, "grid": {"victim": ["x"]}}, r"grid\.victim: not a key of a single value; .*victim\.samples"),
        ({**SET, "grid": {"options": [1]}}, r"grid\.options: not a key of a single value"),
        ({**SET, "grid": {"options.steps": [1]}}, r"grid\.options\.steps: .*stands alone in a grid; expected steps"),
        ({**SET, "grid": {"dissimilarity": [0.1]}}, r"grid\.dissimilarity: a key of the entry and of its grid"),
        ({**SET, "grid": {"name": ["b"]}}, r"grid\.name: a key of the entry and of its grid"),
        ({**SET, "options": {"steps": 3}, "grid": {"steps": [1]}}, r"grid\.steps: a key of the entry and of its grid"),
        ({**SET, "grid": {"steps": [1, 1]}}, r"attack\.sets: two entries, or rows of their grids, .*; got a-s1"),
        ({**SET, "name": "x", "grid": {"steps": [1]}}, r"two entries, or rows .*; got x-s1"),
        ({**SET, "grid": {"spce": ["a/b", "a b"]}}, r"two entries, or rows of their grids, .*; got a-sa-b"),
        (
            {**SET, "grid": {name: [*range(11)] for name in "bcdef"}},
            r"attack\.sets\.1\.grid: too large a grid; .*161051",
        ),
        ({**SET, "grid": {"space": ["pixl"]}}, r"attack\.sets\.1\[a-spixl\]\.space: wrong value; expected 'pixel'\?"),
        ({**SET, "grid": {"victim.samples": ["x"]}}, r"attack\.sets\.1\[a-sx\]\.victim\.samples: wrong value"),
        (
            {**SET, "victim": 5, "grid": {"victim.samples": [1]}},
            r"attack\.sets\.1\.victim: a value has no keys below it",
        ),
        ({**SET, "grid": {"steps": ["9" * 100]}}, r"attack\.sets\.1\[a-s9+\]\.name: not a name"),
        ({**SET, "gird": {"steps": [1]}}, r"attack\.sets\.1\.gird: unknown key; expected 'grid'\?"),
        ({"attack": "pgd", "dissimilarity": 0.1, "grid": {"steps": [1]}}, r"^attack\.sets\.1\.name: missing key"),
        ({**SET, "name": [5], "grid": {"steps": [1]}}, r"^attack\.sets\.1\.name: wrong value"),
        ({**SET, "victim": {"grid": {"samples": [1]}}}, r"attack\.sets\.1\.victim\.grid: unknown key"),
    ],
)
def test_refuses_what_is_no_grid(load, entry, message):
    first = {"name": "x-S1", "attack": "fgsm", "dissimilarity": 0.1, "options": {"steps": 2}}
    with pytest.raises(ConfigError, match=message):
        load(attack={"sets": [first, entry]})


def test_refuses_by_the_place_that_is_written_what_comes_after_rows(load):
    sets = [{**SET, "grid": {"steps": [1, 2, 3]}}, {**SET, "name": "b", "spce": 1}]
    with pytest.raises(ConfigError, match=r"attack\.sets\.1\.spce: unknown key; expected 'space'\?"):
        load(attack={"sets": sets})


def test_refuses_an_entry_of_the_name_of_a_grid():
    twice = [{"name": "s", "grid": {"clusters": [1]}}, {"name": "S", "grid": {"load": ["x"]}}]
    with pytest.raises(ConfigError, match=r"spaces: two entries, or rows of their grids, have one name; got s"):
        parts(spaces=twice)


@pytest.mark.parametrize(
    "values",
    [
        {"defenses": None},
        {"attack": None},
        {"attack": 5},
        {"defenses": {"a": 1}},
        {"defenses": [1, {"name": 2}]},
    ],
)
def test_what_is_no_list_of_entries_is_left_to_the_model(values):
    assert expand(values, Experiment).values == values


def test_the_help_explains_grids():
    assert "  defenses.N.grid: mapping [absent]\n" in explain_keys("project")
    assert explain_keys("evaluate").count(".N.grid: mapping") == 4
