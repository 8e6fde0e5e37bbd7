"""`stl-ray compare` of roots whose predictions were made by hand: eight images a to h of one class, 0; 1 is wrong."""

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from stl_ray.cli import main
from stl_ray.config import Experiment
from stl_ray.statistics import mcnemar, paired_difference
from stl_ray.store import Layout, PlannedShard, Run, Storage

SETS = [{"name": "fgsm", "attack": "fgsm", "linf": 8}]
OWN = {"name": "own", "architecture": "small_cnn"}


@pytest.fixture
def made(tmp_path):
    """Makes a root; its cells are the letters of the images that are right, by (defense, set)."""

    def make(
        name: str,
        cells: Mapping[tuple[str, str], str],
        root: str | None = None,
        images="abcdefgh",
        weights="",
        **sections,
    ) -> str:
        root = root or str(tmp_path / name)
        sections = {"classifiers": [OWN], "attack": {"sets": SETS}, **sections}
        defenses = sections.pop("defenses", ["jpeg"])
        named = [{"name": one, "defense": "jpeg"} if isinstance(one, str) else one for one in defenses]
        experiment = Experiment.model_validate(
            {"name": name, "root": root, "defenses": named, **sections}, strict=False
        )
        Storage.open(root).write(Layout.experiment, experiment.model_dump_json().encode())
        settings = {"sets": [item.model_dump(mode="json") for item in experiment.attack.sets], "seed": experiment.seed}
        for (defense, attack), letters in cells.items():
            for classifier in experiment.classifiers:
                made_of = {"clean": images, "input": [images, attack != "clean" and [settings, weights]]}
                predicted(root, Layout(root).predictions(classifier.name, defense, attack), images, letters, made_of)
        return root

    return make


def predicted(root: str, folder: str, images: str, letters: str, identity: Mapping[str, object]) -> None:
    """A finished run of predictions, in two parts."""
    answers = [0 if letter in letters else 1 for letter in images]
    columns = {"id": list(images), "label": [0] * len(images), "vanilla": answers, "retrained": answers}
    columns |= {f"{setting}_rejected": [False] * len(images) for setting in ("vanilla", "retrained")}
    table, run = pa.table(columns), Run.open(root, folder)
    plan = [PlannedShard(number=n, source={}, rows=len(images) // 2, digest=str(n)) for n in range(2)]
    run.start(plan, identity=identity, environment={})
    for shard in plan:
        part = table.slice(shard.number * shard.rows, shard.rows)
        run.publish(shard, part, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)


BEFORE = {
    ("none", "clean"): "abcdefgh", ("none", "fgsm"): "", ("jpeg", "clean"): "abcdef", ("jpeg", "fgsm"): "a",
}  # fmt: skip
AFTER = {**BEFORE, ("jpeg", "fgsm"): "bcdefgh"}


def text_of(capsys, *arguments: str, code: int = 0) -> str:
    """What the command says, blanks of tables as one."""
    assert main(["compare", *arguments]) == code
    said = capsys.readouterr()
    return "\n".join(" ".join(line.split()) for line in (said.err if code else said.out).split("\n"))


def test_identity_what_changed_in_the_order_of_the_page(made, capsys):
    first = made("before", BEFORE)
    changed = [{"name": "jpeg", "defense": "jpeg", "options": {"quality": 90}}]
    second = made("after", AFTER, defenses=changed, seed=0)
    text = text_of(capsys, first, second)
    interval = paired_difference(both=0, only_first=7, only_second=1, neither=0)
    p = mcnemar(7, 1)
    shown = [
        f"B after {second}",
        "defenses.jpeg.options.quality absent 90",
        "Vanilla classifier (own)",
        "none on clean 8 1.000 1.000 +0.000 ",
        "jpeg on clean 8 0.750 0.750 +0.000 ",
        f"jpeg on fgsm 8 0.125 0.875 +0.750 [{interval.low:+.3f}, {interval.high:+.3f}] * {p:.3f} {4 * p:.3f}",
        "0 of 4 cells differ at 5 % after Holm's correction",
    ]
    places = [text.index(line) for line in shown]
    assert places == sorted(places) and text.endswith(f"{shown[-1]}\n")
    assert text.count("*") == 2  # the mark, and what it means
    for absent in ("Left out", "not the same", "not compared"):
        assert absent not in text


def test_identity_cells_differ_by_the_adjusted_p(made, capsys):
    attacked = {("none", "clean"): "abcdefgh", ("none", "fgsm"): ""}
    first, second = (
        made("before", attacked, defenses=[]),
        made("after", {**attacked, ("none", "fgsm"): "abcdefgh"}, defenses=[]),
    )
    # Eight images of eight: p = 2 / 2^8, twice that by Holm.
    text = text_of(capsys, first, second)
    assert "* 0.008 0.016\n" in text and text.endswith("1 of 2 cells differs at 5 % after Holm's correction\n")
    assert "The configurations are the same." in text
    # Six: p = 2 / 2^6 is below 5 %, twice that is not.
    text = text_of(capsys, first, made("between", {**attacked, ("none", "fgsm"): "abcdef"}, defenses=[]))
    assert "* 0.031 0.062\n" in text and "0 of 2 cells differ" in text


def test_identity_two_defenses_of_one_root(made, capsys):
    root = made("one", {**BEFORE, ("mild", "clean"): "abcdefgh", ("mild", "fgsm"): "ab"}, defenses=["jpeg", "mild"])
    text = text_of(capsys, root, root, "--defenses", "jpeg", "mild")
    assert f"A one {root} jpeg" in text and f"B one {root} mild" in text
    assert "jpeg → mild on clean 8 0.750 1.000 +0.250 " in text
    assert "jpeg → mild on fgsm 8 0.125 0.250 +0.125 " in text
    assert "0 of 2 cells differ" in text and "none on" not in text
    assert "none → jpeg on fgsm 8 0.000 0.125 " in text_of(capsys, root, root, "--defenses", "none", "jpeg")


def test_identity_the_retrained_setting_has_a_table_of_its_own(made, capsys):
    roots = [made(name, BEFORE, classifiers=[{**OWN, "retrain": {}}]) for name in ("before", "after")]
    text = text_of(capsys, *roots)
    assert text.index("Vanilla classifier (own)") < text.index("Retrained classifiers (own)")
    retrained = text[text.index("Retrained classifiers (own)") :]
    assert "jpeg on clean" in retrained and "none on" not in retrained
    assert "0 of 6 cells differ" in text


def test_identity_images_of_one_alone_are_left_out_and_counted(made, capsys):
    text = text_of(capsys, made("before", BEFORE), made("after", BEFORE, images="abcdxy"))
    assert "jpeg on clean 4 1.000 1.000 +0.000 " in text
    assert "Left out: 4 images of A and 2 images of B, of whose id and label the other has none." in text
    assert "The test images of A and B are not the same files" in text


def test_identity_sets_that_were_crafted_otherwise_are_compared_and_named(made, capsys):
    other = made("after", AFTER, attack={"sets": [{**SETS[0], "linf": 4}]})
    text = text_of(capsys, made("before", BEFORE), other)
    assert "attack.sets.fgsm.linf 8.0 4.0" in text and "jpeg on fgsm 8 0.125 0.875" in text
    assert "Attacked images that are not the same in A and B: fgsm (other settings)." in text


def test_identity_sets_of_the_same_settings_on_other_weights_are_named(made, capsys):
    text = text_of(capsys, made("before", BEFORE), made("after", AFTER, weights="other"))
    assert "in A and B: fgsm (the same settings, another victim or another machine)." in " ".join(text.split())
    assert "The configurations are the same." in text


def test_identity_a_cell_of_other_images_is_not_compared(made, capsys):
    second = made("after", {key: BEFORE[key] for key in list(BEFORE)[:3]})
    predicted(second, "evaluate/own/jpeg-on-fgsm", "uvwxyz", "u", {})
    text = text_of(capsys, made("before", BEFORE), second)
    assert "own vanilla jpeg there other images fgsm" in text and "of 3 cells" in text


def test_identity_what_is_not_compared_says_why(made, capsys):
    some = {key: value for key, value in BEFORE.items() if key != ("jpeg", "fgsm")}
    more = {**some, ("mild", "clean"): "a", ("mild", "fgsm"): "a"}
    text = text_of(capsys, made("before", BEFORE), made("after", more, defenses=["jpeg", "mild"]))
    assert "own vanilla jpeg there `evaluate` is to be run fgsm" in text
    assert "own vanilla mild not in the configuration there clean, fgsm" in text
    assert "of 3 cells" in text


def test_roundtrip_the_table_with_all_digits_and_as_a_page(made, capsys, tmp_path):
    roots = made("before", BEFORE), made("after", AFTER)
    text_of(capsys, *roots, "--output", str(tmp_path / "new" / "table.csv"))
    rows = list(csv.DictReader((tmp_path / "new" / "table.csv").read_text().splitlines()))
    assert [(row["defense_a"], row["defense_b"], row["attack"]) for row in rows] == [(d, d, a) for d, a in BEFORE]
    last, interval = rows[-1], paired_difference(0, 7, 1, 0)
    assert (last["classifier"], last["setting"], last["images"], last["left_out_a"]) == ("own", "vanilla", "8", "0")
    found = [float(last[name]) for name in ("accuracy_a", "accuracy_b", "difference", "low", "high", "p", "p_adjusted")]
    assert found == [1 / 8, 7 / 8, *interval, mcnemar(7, 1), 4 * mcnemar(7, 1)]
    text_of(capsys, *roots, "--output", str(tmp_path / "table.md"))
    page = (tmp_path / "table.md").read_text()
    assert page.startswith("# before and after, compared\n") and "## Results" in page
    assert "| jpeg on fgsm | 8 | 0.125 | 0.875 | +0.750 |" in page and "4 cells differ" in page


def test_refuses_another_format_before_it_reads(tmp_path, capsys):
    text = text_of(capsys, str(tmp_path), str(tmp_path), "--output", "table.html", code=2)
    assert "--output table.html: no such format; expected a name that ends with .md or .csv" in text


def test_refuses_a_defense_that_the_root_has_not(made, capsys):
    root = made("one", BEFORE)
    text = text_of(capsys, root, root, "--defenses", "jpeg", "jpg", code=2)
    assert f"jpg: unknown defense of {root}; expected 'jpeg'? (one of jpeg, none)" in text


def test_refuses_roots_that_are_not_that_far_and_says_which_job_is_to_be_run(made, tmp_path, capsys):
    whole, empty = made("whole", BEFORE), str(tmp_path / "empty")
    text = text_of(capsys, whole, empty, code=1)
    assert f"{empty}: no experiment here yet; expected experiment.json" in text and "`stl-ray ingest` first" in text
    partial = made("partial", {})
    Storage.open(partial).write_json("jobs/ingest/1.json", {})
    text = text_of(capsys, partial, whole, code=1)
    assert f"{partial}: no predictions here yet of none, jpeg; expected those of `stl-ray evaluate`" in text
    assert "got sessions of ingest\n" in text


def test_refuses_roots_that_share_no_image(made, capsys):
    text = text_of(capsys, made("before", BEFORE), made("after", BEFORE, images="uvwxyz"), code=1)
    assert "no image is in both; expected images of the same id and label; got 8 and 6 others" in text


def test_refuses_roots_that_share_no_cell(made, capsys):
    text = text_of(capsys, made("before", BEFORE), made("after", BEFORE, classifiers=[{**OWN, "name": "b"}]), code=1)
    assert "no cell is in both; expected a scored classifier of the same name" in text
    none = made("none", {}, classifiers=[])
    assert "no cell is in both" in text_of(capsys, none, none, code=1)


def test_refuses_altered_predictions(made, capsys):
    root = made("one", BEFORE)
    part = next(Path(root).glob("evaluate/own/jpeg-on-clean/parts/*"))
    part.write_bytes(part.read_bytes()[:-8])
    assert "the part was altered" in text_of(capsys, root, root, code=1)


def test_refuses_predictions_of_an_earlier_version(made, capsys):
    root = made("one", {key: BEFORE[key] for key in list(BEFORE)[:3]})
    run, plan = Run.open(root, "evaluate/own/jpeg-on-fgsm"), [PlannedShard(number=0, source={}, rows=1, digest="")]
    run.start(plan, identity={}, environment={})
    table = pa.table({"id": ["a"], "label": [0], "vanilla": [0], "retrained": [0]})
    run.publish(plan[0], table, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)
    text = text_of(capsys, root, root, code=1)
    assert "not predictions that this version can read; expected columns vanilla_rejected, retrained_rejected" in text


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--defenses jpeg stl" in text and "s3://bucket/b --output a-b.md" in text


def test_invariant_it_loads_neither_torch_nor_ray(made):
    root = made("one", BEFORE)
    code = (
        f"import sys; from stl_ray.cli import main; assert main(['compare', {root!r}, {root!r}]) == 0; "
        "print('LOADED', sorted({'torch', 'ray', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.s3
def test_identity_a_root_in_a_bucket_and_a_page_there(made, s3, capsys):
    first, second = made("before", BEFORE), made("after", AFTER, root=f"{s3}/after")
    assert "jpeg on fgsm 8 0.125 0.875" in text_of(capsys, first, second, "--output", f"{s3}/pages/a-b.csv")
    assert Storage.open(s3).read("pages/a-b.csv").startswith(b"classifier,setting,")
