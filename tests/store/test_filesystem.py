import multiprocessing
import resource

import pytest

from stl_ray.errors import InputError, StorageError
from stl_ray.store import Storage


def test_roundtrip_bytes_and_names(tmp_path):
    storage = Storage.open(f"file://{tmp_path}/a%20b")
    storage.write("x/y.bin", b"one")
    storage.write("x/y.bin", b"two")
    assert storage.read("x/y.bin") == b"two"
    assert storage.folder == tmp_path / "a b"
    assert storage.names("x") == ["y.bin"]
    assert storage.names("nowhere") == []


def test_roundtrip_a_file_of_this_machine(tmp_path):
    (tmp_path / "source").write_bytes(bytes(range(256)) * 5000)
    storage = Storage.open(str(tmp_path / "storage"))
    storage.write("x/y.bin", b"one")
    storage.write_file("x/y.bin", tmp_path / "source")
    assert storage.read("x/y.bin") == (tmp_path / "source").read_bytes()
    assert [path.name for path in (tmp_path / "storage" / "x").iterdir()] == ["y.bin"]
    with pytest.raises(StorageError, match="absent: there is no such file"):
        storage.write_file("x/y.bin", tmp_path / "absent")
    assert storage.size("x/y.bin") == 1_280_000


def test_identity_folders_by_name_and_files_by_path(tmp_path):
    storage = Storage.open(str(tmp_path))
    for path in ("b/1", "b c/1", "a", "b.d/1", "z/.tmp-1"):
        storage.write(path, path.encode())
    folders, files = storage.entries()
    assert folders == ["b", "b c", "b.d", "z"]
    assert [(file.path, file.size) for file in files] == [("a", 1)]
    assert [file.path for file in storage.walk()] == ["a", "b c/1", "b.d/1", "b/1"]
    assert [file.path for file in storage.walk("b c")] == ["b c/1"]
    assert (storage.entries("nowhere"), list(storage.walk("nowhere"))) == (([], []), [])


def test_invariant_create_publishes_once(tmp_path):
    storage = Storage.open(str(tmp_path))
    assert storage.create("record", b"first")
    assert not storage.create("record", b"second")
    assert storage.read("record") == b"first"
    assert storage.names() == ["record"]


def _race(root, number, results):
    results.put((number, Storage.open(root).create("record", str(number).encode())))


def test_invariant_one_of_many_creators_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    racers = [context.Process(target=_race, args=(str(tmp_path), n, results)) for n in range(8)]
    for racer in racers:
        racer.start()
    winners = [number for number, won in (results.get() for _ in racers) if won]
    for racer in racers:
        racer.join()
    assert len(winners) == 1
    assert (tmp_path / "record").read_bytes() == str(winners[0]).encode()


def test_refuses_unknown_kinds_of_storage():
    with pytest.raises(InputError, match=r"ftp://host/x: no kind of storage is called .ftp."):
        Storage.open("ftp://host/x")


def test_refuses_a_missing_file_by_name(tmp_path):
    with pytest.raises(StorageError, match=r"absent\.bin: there is no such file"):
        Storage.open(str(tmp_path)).read("absent.bin")


def test_refuses_broken_json(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StorageError, match="not a JSON file"):
        Storage.open(str(tmp_path)).read_json("x.json")


def _write_too_much(root, results):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    storage = Storage.open(root)
    storage.write("kept", b"small")
    try:
        storage.write("kept", bytes(100_000))
    except StorageError as error:
        results.put(str(error))


def test_refuses_a_full_disk_and_keeps_the_old_file(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    writer = context.Process(target=_write_too_much, args=(str(tmp_path), results))
    writer.start()
    message = results.get(timeout=20)
    writer.join()
    assert "kept: the file is larger than this process may write" in message
    assert (tmp_path / "kept").read_bytes() == b"small"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_refuses_a_root_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="not a folder"):
        Storage.open(str(tmp_path / "file")).preflight()
