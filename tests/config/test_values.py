"""Every character and every look-alike that a value may have, in a file and in key=value."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stl_ray.config import Experiment, load_experiment
from stl_ray.config.keys import below, is_text
from stl_ray.config.values import read, read_override, written
from stl_ray.errors import ConfigError

HEAD = "name: x\nroot: /r\ningest: {train: {format: photographs}, test: {format: photographs}}\n"
TEXT = st.text(
    st.one_of(st.sampled_from("01.:-+_~#'\"[]{}, &*!|>%@`=?<\\\n\tnul"), st.characters(exclude_categories=["Cs"])),
    max_size=12,
)
LOOK_ALIKES = [
    "2024-11-26", "2024-11-26 10:00:00", "010", "0x1F", "1e3", "1:30", "12:30:45", "1_000", ".5", ".inf", "yes", "no", "on",
    "true", "<<", "=", "/data/run #2", "[v2] data", "{a}", "*a", "&a", "!a", "%a", "@a", "`a", "- a", "a: b", "? a", "| a",
    "> a", "a=b", "'tis", 'a "b" c', "#a", "a, b", "~a", "nulls", "C:\\a", " a ", "a\tb", "--- a", "...", "é", "日本 🐈", "\ufeffa",
]  # fmt: skip
NULLS = ("", "~", "null", "Null", "NULL")


@pytest.fixture
def load(tmp_path):
    def load(text="", *overrides, head=HEAD, encoding="utf-8"):
        file = tmp_path / "c.yaml"
        file.write_bytes((head + text).encode(encoding))
        return load_experiment(str(file), overrides)

    return load


def _override(text, key="report.title", annotation=str):
    return read_override(text, annotation, key=key)


@given(text=TEXT)
@example(text="'")
@example(text="''a''")
@example(text='"a" b"')
@example(text="!")
@example(text="null\n")
def test_roundtrip_text_of_an_override_is_all_behind_the_sign(text):
    if text in NULLS:
        assert _override(text) is None
    elif text[:1] not in ("'", '"'):
        assert _override(text) == text
    assert text[:1] in ("'", '"') or _override(f"{text} ") == f"{text} "
    if "\n" not in text and text.isprintable():
        assert _override("'" + text.replace("'", "''") + "'") == text


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_roundtrip_look_alikes(load, text):
    assert load("", f"report.title={text}").report.title == text
    quoted = text.replace("'", "''")
    assert load(f"report: {{title: '{quoted}'}}").report.title == text


@pytest.mark.parametrize("text", LOOK_ALIKES[:16])
def test_roundtrip_look_alikes_without_quotes_in_a_file(load, text):
    assert load(f"report: {{title: {text}}}" if ":" not in text else f"report:\n  title: {text}").report.title == text


@given(text=TEXT, value=st.one_of(TEXT, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)))
@example(text="010", value="010")
@example(text="09", value="09")
@example(text="1:30", value="2024-11-26")
@example(text="=", value=1e-05)
def test_roundtrip_what_is_written_is_read(text, value):
    values = {"report": {"title": text}, "defenses": [{"options": {"a": value, "b": [value]}}]}
    again = read(written(values), Experiment, item="x")
    assert again == values
    assert type(again["defenses"][0]["options"]["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "seed"), [("010", 10), ("09", 9), ("0x10", 16), ("0b11", 3), ("0o10", 8), ("1_000", 1000), ("+7", 7)]
)
def test_identity_numbers_are_decimal_unless_they_say_otherwise(load, text, seed):
    assert load("", f"seed={text}").seed == seed
    assert load(f"seed: {text}").seed == seed


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1e-3", 1e-3), (".5", 0.5), ("1", 1.0), ("0.0_5", 0.05), ("5E-2", 0.05), ("08.5", 8.5), ("1.", 1.0)],
)
def test_identity_fractions(load, text, rate):
    assert load("", f"train.learning_rate={text}").train.learning_rate == rate
    assert load(f"train: {{learning_rate: {text}}}").train.learning_rate == rate


def test_identity_of_the_types_of_keys(load):
    experiment = load(
        "name: 010",  # the later name is refused, so it stands alone here
        "defenses=[{name: 007, defense: jpeg, options: {quality: 010, text: 2024-11-26, on: yes}}]",
        "solver.method=admm",
        "ray.address=null",
        "train.flip=no",
        "ingest.train={format: folder, path: '/data/run #2'}",
        "ingest.test.format=folder",
        "ingest.test.path=/data/[v2] #2 = 'x'",
        head=HEAD.removeprefix("name: x\n"),
    )
    assert (experiment.name, experiment.defenses[0].name) == ("010", "007")
    assert experiment.defenses[0].options == {"quality": 10, "text": "2024-11-26", "on": True}
    assert (experiment.ray.address, experiment.train.flip) == (None, False)
    assert experiment.ingest.train.path == "/data/run #2"
    assert experiment.ingest.test.path == "/data/[v2] #2 = 'x'"


def test_identity_only_text_is_text():
    texts = {name for name, field in Experiment.model_fields.items() if is_text(field.annotation)}
    assert texts == {"name", "root"}
    path = below(below(below(Experiment, "ingest"), "train"), "path")
    assert is_text(path) and is_text(below(below(Experiment, "solver"), "method"))
    assert not is_text(below(below(below(below(Experiment, "spaces"), "0"), "autoencoder"), "side"))
    assert is_text(below(below(below(Experiment, "project"), "splits"), "0"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_identity_line_ends_and_marks_of_windows(load, encoding, end):
    assert load("seed: 3\n".replace("\n", end), head=HEAD.replace("\n", end), encoding=encoding).seed == 3


def test_roundtrip_anchors_and_merges(load):
    text = "report: &r {title: x}\ndefenses:\n- &d {name: a, defense: jpeg}\n- {<<: *d, name: b}\n"
    experiment = load(text)
    assert [defense.name for defense in experiment.defenses] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "^seed: given twice in one section"),
        ("train: {epochs: 1, epochs: 2}", r"^train\.epochs: given twice"),
        ("seed: 1:30", "^seed: wrong value; expected a valid integer; got '1:30'"),
        ("seed: 2024-11-26", "^seed: wrong value; expected a valid integer; got '2024-11-26'"),
        ("seed: !!binary aGk=", "^seed: a YAML tag that means nothing here; got .*binary"),
        ("train: !!python/object:os.x {}", "^train: a YAML tag that means nothing here"),
        ("train: &a {x: *a}", "nested without end"),
        ("train: " + "[" * 5000, "nested without end"),
        ("? [a]\n: 1", "a name of a key is no list"),
        ("seed: " + "1" * 5000, "^seed: not of YAML's type int"),
        ('report: {title: "\\ud800"}', r"^report\.title: not UTF-8"),
        ("\tseed: 1", "not YAML .*character '\\\\t'"),
        ("seed: \x001", "not YAML .*special characters are not allowed"),
        ("1: x", "^1: unknown key"),
        ("on: x", "^on: unknown key"),
    ],
)
def test_refuses_what_is_no_value(load, text, message):
    with pytest.raises(ConfigError, match=message):
        load(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "ingest.train={format: folder, path: /data/run #2}",
            r"not YAML \(# begins a comment; quote a text that holds",
        ),
        ("project.splits=[train] #", "# begins a comment"),
        ("project.splits=[train", "^project.splits=.train: not YAML"),
        ("project.splits=train", "^project.splits: wrong value; expected a valid array; got 'train'"),
        ("seed=3 #", "^seed: wrong value; expected a valid integer; got '3 #'"),
        ("seed='3'", "^seed: wrong value; expected a valid integer; got '3'"),
        ("seed=- 3", "got '- 3'"),
        ("root=", "^root: wrong value; expected a valid string; got None"),
        ("root=~", "^root: wrong value; expected a valid string; got None"),
        ("root=''", "^root: an empty place"),
        ("root=/a\nb", "^root: a place has no line breaks"),
        ("root=/a\udcff", r"^root: not UTF-8; got '/a\\udcff'"),
        ("s\udcffed=1", r"^'s\\udcffed': unknown key; expected 'seed'"),
        ("defenses.².name=x", "unknown key"),
    ],
)
def test_refuses_overrides_by_their_key(load, override, message):
    with pytest.raises(ConfigError, match=message):
        load("", override)
