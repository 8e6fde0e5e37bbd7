"""The benchmarks of dictionary learning run and compare like with like; how fast anything is, no test can tell."""

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from stl_ray.csc import Dictionary, operator_of, solve_cbpdn, split_bands
from stl_ray.csc.certificate import objective

pytest.importorskip("sporco")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def highpass(natural_images: torch.Tensor) -> torch.Tensor:
    return split_bands(natural_images[:6])[1]


def random_dictionary(seed: int, filters: int = 12) -> Dictionary:
    values = torch.randn((filters, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    return Dictionary(values / values.flatten(1).norm(dim=1)[:, None, None, None], 0.2)


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def rows(page: str, heading: str) -> list[list[str]]:
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return table[2:]


@pytest.fixture(scope="module")
def race_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("results") / "learning.md"
    printed = run("learning", "--quick", "--images", "8", "--cap", "0.1", "--patches", "--output", str(output))
    assert output.read_text(encoding="utf-8").strip() == printed.strip()
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return printed


@pytest.mark.faults
def test_identity_the_race_has_all_learners(race_page: str) -> None:
    ended = rows(race_page, "Where each ended")
    peers = ["SPORCO, consensus", "SPORCO, consensus from patches", "SPORCO, online"]
    assert [row[1] for row in ended] == [*peers, "ours, consensus", "ours, online"]
    assert [row[7] for row in ended] == ["capped"] * 5
    assert all(float(row[4]) > 0 and 0 < float(row[5]) < 5 and 15 < float(row[6]) < 60 for row in ended)
    assert [row[1] for row in rows(race_page, "Two threads")] == ["ours, consensus", "ours, online"]


@pytest.mark.faults
def test_identity_ratios_are_of_the_seconds_beside_them(race_page: str) -> None:
    compared = 0
    for row in rows(race_page, "CPU time to equal objectives"):
        for own, ratio in ((row[5], row[6]), (row[7], row[8])):
            if own == "not reached":
                assert ratio == "-"
            else:
                compared += 1
                assert float(ratio) == pytest.approx(float(row[4]) / float(own), rel=0.03)  # three digits each
    assert compared


@pytest.mark.faults
def test_invariant_the_page_tells_nothing_of_this_machine(race_page: str) -> None:
    assert "python -m benchmarks.learning --quick" in race_page
    assert str(ROOT) not in race_page
    assert "/tmp" not in race_page


@pytest.mark.faults
def test_identity_the_authors_page_compares_on_the_same_images(tmp_path: Path) -> None:
    output = tmp_path / "authors.md"
    page = run("learning.authors", "--quick", "--counts", "8", "--partition", "0", "--output", str(output))
    assert output.with_suffix(".png").is_file()
    theirs, *ours = rows(page, "Held-out objective against training images")
    assert [row[1] for row in ours] == ["consensus", "online"]
    for row in ours:
        percent = float(row[4].split(" ")[0])
        assert percent == pytest.approx(100 * (float(row[3]) / float(theirs[3]) - 1), abs=0.1)
        low, high = (float(part) for part in row[4].split("(")[1].rstrip(")").split(" to "))
        assert low < percent < high
    assert str(tmp_path) not in page


@pytest.mark.parametrize("module", ["learning.__main__", "learning.authors"])
def test_identity_help_teaches(load, module: str) -> None:
    text = load(module)._parser().format_help()
    assert "examples:" in text
    assert "--data" in text


def test_identity_the_partition_is_compared_with_one_block(load) -> None:
    page, heldout = load("learning.authors_page"), load("common.heldout")

    def fit(method: str, block: int, value: float):
        judgement = heldout.HoldoutScore(torch.tensor([value, value + 1]).double(), 0.003, 28.0)
        return page.Fit(method, 8, block, 20, True, 1.0, judgement)

    dealt = [fit("consensus", 8, 9.5), fit("consensus", 4, 9.6), fit("online", 8, 9.5), fit("online", 4, 9.0)]
    theirs = dealt[0].judgement
    result = page.Result(32, "images", "theirs", 8, 2, theirs, [dealt[0], dealt[2]], dealt)
    found = rows(page.report([result], "command", 1.0, None), "The partition into blocks")
    assert [row[5].split(" ")[0] for row in found] == ["0", "+1.00", "0", "-5.00"]
    assert found[1][6] == "within 1"


def test_agrees_with_the_certificates_objective(load, highpass: torch.Tensor) -> None:
    dictionary = random_dictionary(0)
    judgement = load("common.heldout").judge(dictionary, highpass)
    maps = solve_cbpdn(highpass, dictionary, 0.2, accuracy="reference").maps.double()
    operator = operator_of(dictionary, *highpass.shape[-2:], dtype=torch.float64, device=torch.device("cpu"))
    expected = objective(maps, highpass.double(), operator, 0.2)
    torch.testing.assert_close(judgement.objectives, expected, rtol=1e-5, atol=0)  # D z in float32
    assert judgement.sparsity == pytest.approx(float((maps != 0).double().mean()), rel=1e-6)


def test_identity_differences_are_paired(load) -> None:
    heldout = load("common.heldout")
    base = torch.tensor([1.0, 2.0, 30.0]).double()
    ours, theirs = (heldout.HoldoutScore(values, 0.0, 0.0) for values in (0.9 * base, base))
    shifted = heldout.HoldoutScore(base - 1.1, 0.0, 0.0)
    assert heldout.difference(ours, theirs).estimate == pytest.approx(-10)
    found = heldout.difference(shifted, theirs)  # the images differ far more than the dictionaries
    assert found == pytest.approx((-10, -10, -10))


def test_agrees_with_sporco_solved_in_one_go(load, natural_images: torch.Tensor) -> None:
    from sporco.dictlrn import cbpdndl

    learners, images = load("learning.learners"), natural_images[:3]
    stepped = learners._peer_consensus(images, learners._random_filters())
    last = [next(stepped)[0] for _ in range(3)][-1]
    settings = {"MaxMainIter": 3, "CBPDN": {"rho": 10.5}, "CCMOD": {"rho": 1.0, "ZeroMean": True}}
    options = cbpdndl.ConvBPDNDictLearn.Options(settings, dmethod="cns")
    high = learners._peer_highpass(images)
    whole = cbpdndl.ConvBPDNDictLearn(learners._random_filters(), high, 0.2, options, dmethod="cns").solve()
    np.testing.assert_array_equal(last.filters.numpy(), whole.reshape(8, 8, 3, 64).transpose(3, 2, 0, 1))


def burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_identity_the_clock_stands_still_while_a_dictionary_is_judged(load, monkeypatch: pytest.MonkeyPatch) -> None:
    race, judgement = load("learning.race"), load("common.heldout").HoldoutScore(torch.ones(1), 0.0, 0.0)
    dictionary = random_dictionary(0)

    def begin() -> Iterator[tuple[Dictionary, bool]]:
        for index in range(4):
            burn(0.02)
            yield dictionary, index == 3

    def judge(*_: object) -> object:
        burn(0.1)
        return judgement

    monkeypatch.setattr(race, "judge", judge)
    learner, progress = load("learning.learners").Learner("fake", False, begin), load("common.progress").Progress()
    found = race.race(learner, torch.zeros(1), None, progress)
    assert [c.iteration for c in found.checkpoints] == [1, 2, 3, 4]
    assert found.ending == "converged"
    assert 0.08 <= found.final.seconds < 0.15
    capped = race.race(learner, torch.zeros(1), 0.03, progress)
    assert capped.final.iteration == 2
    assert capped.ending == "capped"


def test_identity_an_objective_is_reached_at_the_first_checkpoint_at_or_below_it(load) -> None:
    race, heldout = load("learning.race"), load("common.heldout")
    values = [5.0, 3.0, 4.0, 3.5]  # rises again
    checkpoints = [
        race.Checkpoint(i + 1, float(i + 1), heldout.HoldoutScore(torch.tensor([v]), 0.0, 0.0))
        for i, v in enumerate(values)
    ]
    found = race.Run(None, checkpoints, "", 1.0)
    assert [found.first(value) for value in (6.0, 5.0, 3.5, 2.9)] == [1, 1, 2, None]
    assert [found.after(share).iteration for share in (0.1, 0.5, 0.74, 1.0)] == [1, 2, 2, 4]


def test_invariant_fewer_training_images_are_the_first_of_more(load, shared_data: Path) -> None:
    images: ModuleType = load("common.training_images")
    for size, data, source in ((32, None, "photographs"), (32, shared_data, "train"), (64, shared_data, "train")):
        few, words = images.training_images(size, 3, data)
        many, _ = images.training_images(size, 6, data)
        assert source in words
        assert few.shape == (3, 3, size, size)
        assert torch.equal(few, many[:3])
        torch.testing.assert_close(many * 255, (many * 255).round(), rtol=0, atol=1e-4)


def test_refuses_more_training_images_than_there_are(load, shared_data: Path) -> None:
    images = load("common.training_images")
    assert images.available(64, shared_data) == 2000
    assert images.available(64, None) is None
    with pytest.raises(SystemExit, match="has 2000"):
        images.training_images(64, 2001, shared_data)
