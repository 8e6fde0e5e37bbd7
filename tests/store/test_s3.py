"""S3Files against a real S3 server."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pyarrow as pa
import pytest

from stl_ray.errors import InputError, StorageError
from stl_ray.store import Storage
from stl_ray.store.s3 import _client
from stl_ray.store.shards import ids_of, table_to_bytes

pytestmark = pytest.mark.s3

OUTAGE_S = 3  # several pauses between requests; tests/integration/test_s3_faults.py has a long one


@pytest.fixture
def storage(s3) -> Storage:
    return Storage.open(f"{s3}/below/here")


@pytest.fixture
def fresh_client():
    """The client reads the environment anew, and again after the test."""
    _client.cache_clear()
    yield
    _client.cache_clear()


def test_roundtrip_bytes_names_and_ranges(storage, tmp_path):
    storage.write("x/y.bin", b"one")
    (tmp_path / "source").write_bytes(b"0123456789")
    storage.write_file("x/y.bin", tmp_path / "source")
    storage.write("x/folder/z", b"")
    storage.write("top", b"t")
    assert storage.read("x/y.bin") == b"0123456789"
    assert (storage.read("x/y.bin", 2, 3), storage.read("x/y.bin", 8), storage.size("x/y.bin")) == (b"234", b"89", 10)
    assert storage.read("x/folder/z") == b""
    assert storage.names("x") == ["folder", "y.bin"]
    assert storage.names() == ["top", "x"]
    assert storage.names("nowhere") == []
    assert [file.path for file in storage.walk()] == ["top", "x/folder/z", "x/y.bin"]
    assert [(file.path, file.size) for file in storage.walk("x")] == [("x/folder/z", 0), ("x/y.bin", 10)]
    assert storage.entries("x") == (["folder"], [file for file in storage.walk("x") if file.path == "x/y.bin"])
    assert storage.entries("nowhere") == ([], [])
    assert storage.exists("x")
    assert storage.exists("x/y.bin")
    assert not storage.exists("x/y")
    storage.delete("x/y.bin")
    storage.delete("x/y.bin")
    assert not storage.exists("x/y.bin")
    assert storage.below("x").names() == ["folder"]


def test_identity_a_bucket_is_there_when_something_is_in_it(s3):
    bucket = Storage.open(s3)
    assert (bucket.exists(""), bucket.names(), list(bucket.walk())) == (False, [], [])
    bucket.write("a", b"1")
    assert bucket.exists("")
    assert (bucket.read("a"), bucket.names()) == (b"1", ["a"])


def test_roundtrip_through_another_process_and_a_query(storage, ceph, monkeypatch):
    storage.write("a", b"1")
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"1"
    host = ceph.endpoint.removeprefix("http://")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    other = Storage.open(f"{storage.root}/?endpoint_override={host}&scheme=http&region=us-east-1")
    assert other.below("x").at("y").startswith(f"{storage.root}/x/y?endpoint_override=")
    assert other.read("a") == b"1"


def test_roundtrip_what_is_public_is_read_without_a_key(s3, ceph, monkeypatch, fresh_client):
    Storage.open(s3).write("open/a", b"1")
    Storage.open(s3).write("closed/a", b"1")
    _client("").put_object_acl(Bucket=s3.removeprefix("s3://"), Key="open/a", ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    anonymous = f"?endpoint_url={ceph.endpoint}&anonymous=true"
    assert Storage.open(f"{s3}/open{anonymous}").read("a") == b"1"
    with pytest.raises(StorageError, match="permission denied"):
        Storage.open(f"{s3}/closed{anonymous}").read("a")


def test_roundtrip_a_column_is_read_by_ranges(storage):
    table = pa.table({"id": [str(n) for n in range(600)], "image": [bytes(1000)] * 600})
    storage.write("part.parquet", table_to_bytes(table))
    assert ids_of(storage, "part.parquet") == [str(n) for n in range(600)]


def test_invariant_a_listing_of_many_pages_is_whole(storage):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: storage.write(f"many/{n:05d}", b""), range(1100)))
    expected = [f"{n:05d}" for n in range(1100)]
    assert storage.names("many") == expected
    assert [file.path for file in storage.walk("many")] == [f"many/{name}" for name in expected]


def test_invariant_one_of_many_creators_wins(storage):
    for attempt in range(5):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, at=attempt: storage.create(f"record-{at}", str(n).encode()), range(8)))
        assert sum(won) == 1
        assert storage.read(f"record-{attempt}") == str(won.index(True)).encode()


@pytest.mark.parametrize("outage", ["paused", "killed"])
def test_invariant_writes_outlive_an_outage(storage, ceph, outage):
    stopped = threading.Event()

    def away():
        ceph.pause() if outage == "paused" else ceph.kill()
        stopped.set()
        time.sleep(OUTAGE_S)
        ceph.resume() if outage == "paused" else ceph.restart()

    outside = threading.Thread(target=away)
    outside.start()
    stopped.wait()
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(lambda n: storage.create(f"new-{n}", b"new"), range(8)))
        list(pool.map(lambda n: storage.write(f"put-{n}", str(n).encode()), range(8)))
    outside.join()
    assert created == [True] * 8
    assert [storage.read(f"put-{n}") for n in range(8)] == [str(n).encode() for n in range(8)]


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The seconds for which requests have waited before they were tried again; nobody really waits."""
    waited: list[float] = []
    monkeypatch.setattr("stl_ray.store.s3.time", SimpleNamespace(monotonic=time.monotonic, sleep=waited.append))
    return waited


def test_refuses_what_is_not_there_at_once(storage, pauses):
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x/\.preflight-.*: there is no such bucket"):
        Storage.open("s3://no-such-bucket/x").preflight()
    with pytest.raises(StorageError, match=r"below/here/absent: there is no such file"):
        storage.read("absent")
    assert pauses == []


def test_refuses_what_can_never_go_well_without_waiting(storage, pauses):
    with pytest.raises(InputError, match=r"^s3://a;b/x/a: S3 cannot be used like this \(Parameter validation"):
        Storage.open("s3://a;b/x").read("a")  # no name of a bucket
    assert pauses == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "hidden-and-wrong", "the secret key is wrong"),
        ("AWS_ACCESS_KEY_ID", "hidden-and-unknown", "the access key is not known there"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "the server cannot be reached"),
        ("AWS_ENDPOINT_URL", "me:hidden@127.0.0.1", "S3: the endpoint is not a URL; expected such as http://host:port"),
        ("AWS_ENDPOINT_URL", "http://me:hidden@127.0.0.1:9", "credentials in a URI end up in logs"),
    ],
)
def test_refuses_wrong_keys_and_no_server_in_plain_words_without_repeating_them(
    storage, ceph, monkeypatch, fresh_client, name, value, message
):
    monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError if name == "AWS_ENDPOINT_URL" and "hidden" in value else StorageError, match=message
    ) as caught:
        storage.preflight()
    assert "hidden" not in str(caught.value)
    assert ceph.secret_key not in str(caught.value)


def test_refuses_to_work_without_credentials(storage, monkeypatch, fresh_client, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="unable to locate credentials; give credentials by the environment"):
        storage.preflight()
