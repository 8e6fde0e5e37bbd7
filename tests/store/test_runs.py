import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.errors import AuditError, IncompleteRunError, QuarantineLimitError, RunIdentityError, StorageError
from stl_ray.store import Dataset, PlannedShard, QuarantinedRow, Run, Storage, verify
from stl_ray.store.audit import orphans_of
from stl_ray.store.plan import read_shard
from stl_ray.store.sweep import sweep

PLAN = [PlannedShard(number=n, source={"start": 3 * n}, rows=3, digest=str(n)) for n in range(3)]


def _run(folder) -> Run:
    return Run(Storage.open(str(folder)), "stage", "name")


def _start(run, identity=None):
    run.start(PLAN, identity=identity or {"lmbda": 0.2}, environment={"host": "a"})


def _table(shard, ids=None):
    return pa.table({"id": ids or [f"{shard.number}-{row}" for row in range(3)], "value": [1, 2, 3]})


def _publish(run, shard, table=None, quarantine=()):
    table = _table(shard) if table is None else table
    return run.publish(shard, table, quarantine, seconds=0.1, attempt=1, environment={})


@pytest.fixture
def finished(tmp_path):
    run = _run(tmp_path)
    _start(run)
    for shard in PLAN:
        _publish(run, shard)
    run.finish(max_quarantined=0)
    return run


def test_roundtrip_plan_and_dataset(finished, tmp_path):
    assert list(finished.plan()) == PLAN
    assert [read_shard(finished.storage, number) for number in (2, 0)] == [PLAN[2], PLAN[0]]
    dataset = Dataset.open(str(tmp_path))
    assert dataset.rows == 9
    assert [i for table in dataset.tables() for i in table["id"].to_pylist()] == [
        f"{n}-{row}" for n in range(3) for row in range(3)
    ]
    assert verify(str(tmp_path))["rows"] == 9


def test_roundtrip_notes_of_the_first_start_stay_and_are_no_part_of_the_identity(tmp_path):
    run, noted = _run(tmp_path), []

    def plan():
        yield from PLAN
        noted.append("é")

    run.draft(plan(), identity={}, notes=lambda: {"left_out": list(noted)}).start({}, environment={})
    assert run.plan().notes == {"left_out": ["é"]}
    run.draft(PLAN, identity={}, notes=lambda: {"left_out": []}).start({}, environment={})
    assert run.plan().notes == {"left_out": ["é"]}


def test_roundtrip_a_plan_without_notes(tmp_path):
    """Plans of earlier versions have none."""
    run = _run(tmp_path)
    _start(run)
    file = tmp_path / "plan.parquet"
    table = pq.read_table(file)
    (metadata := pq.read_metadata(file).metadata).pop(b"notes")
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=8)
    assert (run.plan().notes, list(run.plan())) == ({}, PLAN)


def test_invariant_a_resumed_run_plans_only_what_has_no_receipt(tmp_path):
    run = _run(tmp_path)
    _start(run)
    _publish(run, PLAN[1])
    again = _run(tmp_path)
    _start(again)
    assert again.done() == {1}
    assert again.pending() == {0: 3, 2: 3}


def test_invariant_what_the_manifest_names_is_no_orphan(finished, tmp_path):
    named = Dataset.open(str(tmp_path)).parts[1]["file"]
    finished.storage.delete("done/00001.json")  # as if another's receipt took its place
    other = _publish(finished, PLAN[1], _table(PLAN[1]).set_column(1, "value", pa.array([4, 5, 6])))
    assert other.part != named
    assert orphans_of(finished.storage) == []
    assert sweep(finished.storage, "", delete=True).files == ()
    assert verify(str(tmp_path))["rows"] == 9


def test_invariant_the_first_receipt_wins(tmp_path):
    run = _run(tmp_path)
    _start(run)
    first = _publish(run, PLAN[0])
    late = _publish(run, PLAN[0], _table(PLAN[0], ["x", "y", "z"]))
    assert late == first
    for shard in PLAN[1:]:
        _publish(run, shard)
    run.finish(max_quarantined=0)
    assert len(list((tmp_path / "parts").iterdir())) == 4  # the late part is there, and nobody's
    assert verify(str(tmp_path))["rows"] == 9


def test_invariant_the_same_rows_give_the_same_bytes(tmp_path):
    receipts = []
    for name in ("a", "b"):
        run = _run(tmp_path / name)
        _start(run)
        receipts.append(_publish(run, PLAN[0]))
    assert receipts[0].sha256 == receipts[1].sha256
    assert receipts[0].part == receipts[1].part


def test_invariant_attempts_count_under_one_driver(tmp_path):
    run = _run(tmp_path)
    one, again, other = ({"driver": driver, "node": node} for driver, node in (("1", "a"), ("1", "b"), ("2", "a")))
    assert run.attempts(7, "1") == []
    for worker in (one, other, again):
        run.attempt(7, worker)
    assert (run.attempts(7, "1"), run.attempts(7, "2"), run.attempts(8, "1")) == ([one, again], [other], [])


def test_invariant_the_environment_is_no_identity(tmp_path):
    _start(_run(tmp_path))
    _run(tmp_path).start(PLAN, identity={"lmbda": 0.2}, environment={"host": "b"})


def test_refuses_another_identity_and_shows_the_difference(tmp_path):
    _start(_run(tmp_path), {"solver": {"lmbda": 0.2, "tier": "default"}})
    with pytest.raises(RunIdentityError, match=r"'solver.lmbda': 0.2.*got \{'solver.lmbda': 0.3") as error:
        _start(_run(tmp_path), {"solver": {"lmbda": 0.3, "tier": "default"}})
    assert "tier" not in str(error.value)


def test_invariant_a_draft_is_checked_and_writes_nothing(tmp_path):
    draft = _run(tmp_path).draft(PLAN, identity={"lmbda": 0.2}, made=["calibration"])
    assert not list(tmp_path.iterdir())
    draft.start({"calibration": "a"}, environment={})
    again = _run(tmp_path).draft(PLAN, identity={"lmbda": 0.2}, made=["calibration"])
    assert again.stored["calibration"] == "a"
    with pytest.raises(RunIdentityError, match=r"'calibration': 'a'.*'calibration': 'b'"):
        again.start({"calibration": "b"}, environment={})
    for other in ({"identity": {"lmbda": 0.3}, "made": ["calibration"]}, {"identity": {"lmbda": 0.2}}):
        with pytest.raises(RunIdentityError, match=r"lmbda|calibration"):
            _run(tmp_path).draft(PLAN, **other)


def test_refuses_another_plan(tmp_path):
    _start(_run(tmp_path))
    with pytest.raises(RunIdentityError, match="plan_digest"):
        _run(tmp_path).start(PLAN[:2], identity={"lmbda": 0.2}, environment={})


def test_refuses_lost_rows(tmp_path):
    run = _run(tmp_path)
    _start(run)
    with pytest.raises(StorageError, match="rows lost or doubled; expected 3 rows; got 2 out and 0 quarantined"):
        _publish(run, PLAN[0], _table(PLAN[0]).slice(0, 2))


def test_refuses_to_finish_with_shards_missing(tmp_path):
    run = _run(tmp_path)
    _start(run)
    _publish(run, PLAN[2])
    with pytest.raises(IncompleteRunError, match=r"expected 3 receipts; got 1; first missing: \[0, 1\]"):
        run.finish(max_quarantined=1)
    with pytest.raises(IncompleteRunError, match="no finished dataset"):
        Dataset.open(str(tmp_path))


def test_refuses_an_id_in_two_shards(tmp_path):
    run = _run(tmp_path)
    _start(run)
    for shard in PLAN:
        _publish(run, shard, _table(shard, ["same", f"{shard.number}-1", f"{shard.number}-2"]))
    with pytest.raises(StorageError, match=r"an id comes twice.*got same"):
        run.finish(max_quarantined=0)


def test_refuses_too_much_quarantine_then_finishes_under_another_limit(tmp_path):
    run = _run(tmp_path)
    _start(run)
    for shard in PLAN:
        row = QuarantinedRow(f"{shard.number}-2", "unreadable", "cut off", b"\xff")
        _publish(run, shard, _table(shard).slice(0, 2), [row])
    with pytest.raises(QuarantineLimitError, match=r"'unreadable': 3.*at most 33.00% of 9; got 3"):
        run.finish(max_quarantined=0.33)
    manifest = run.finish(max_quarantined=0.34)
    assert (manifest["rows"], manifest["quarantined"], manifest["reasons"]) == (6, 3, {"unreadable": 3})
    assert verify(str(tmp_path))["quarantined"] == 3
    with pytest.raises(QuarantineLimitError):
        run.finish(max_quarantined=0.33)
    next((tmp_path / "quarantine").iterdir()).unlink()
    with pytest.raises(AuditError, match=r"quarantine/.*there is no such file"):
        verify(str(tmp_path))


def test_refuses_altered_missing_and_doubled_bytes_in_the_audit(finished, tmp_path):
    parts = sorted((tmp_path / "parts").iterdir())
    original = parts[1].read_bytes()
    parts[1].write_bytes(original[:-1])
    with pytest.raises(AuditError, match=f"{parts[1].name}: the part was altered"):
        verify(str(tmp_path))
    parts[1].unlink()
    with pytest.raises(AuditError, match=f"{parts[1].name}: there is no such file"):
        verify(str(tmp_path))


def test_refuses_rows_that_the_manifest_has_and_the_plan_does_not(finished, tmp_path):
    manifest = json.loads((tmp_path / "MANIFEST.json").read_text())
    manifest["parts"].append(manifest["parts"][0])
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(AuditError, match=r"id '0-0' comes twice.*expected 9 planned rows; got 12"):
        verify(str(tmp_path))


def test_refuses_a_plan_that_another_driver_wrote(finished, tmp_path):
    other = _run(tmp_path / "other")
    other.start(PLAN[:2], identity={}, environment={})
    (tmp_path / "plan.parquet").write_bytes((tmp_path / "other" / "plan.parquet").read_bytes())
    with pytest.raises(StorageError, match=r"the plan is not that of run\.json"):
        finished.plan()


def test_refuses_a_row_without_an_id(tmp_path):
    run = _run(tmp_path)
    _start(run)
    with pytest.raises(StorageError, match="name shard 0: a row has no id"):
        _publish(run, PLAN[0], pa.table({"id": ["a", None, "c"]}))


def test_refuses_to_use_a_run_that_was_made_otherwise(finished):
    finished.require({"lmbda": 0.2})
    with pytest.raises(RunIdentityError, match=r"expected \{'lmbda': 0\.2\}; got \{'lmbda': 0\.3\}"):
        finished.require({"lmbda": 0.3})
