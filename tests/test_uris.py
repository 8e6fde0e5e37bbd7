import pytest

from stl_ray.errors import StorageError
from stl_ray.uris import joined, normalized, parted

S3 = "s3://bucket/a?endpoint_override=host:1&scheme=http"


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("/a/b/", "/a/b"),
        ("file:///a%20b/c", "/a b/c"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://bucket/a/?scheme=http", "s3://bucket/a?scheme=http"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_identity_of_what_a_uri_means(uri, meant):
    assert normalized(uri) == meant
    assert normalized(meant) == meant


def test_a_relative_path_is_taken_from_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert normalized("a") == str(tmp_path / "a")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hidden@bucket/a",
        "s3://AKIA@bucket/a",
        "s3://bucket/a?secret_key=hidden",
        "s3://bucket/a?access_key=hidden",
        "s3://bucket/a?session_token=hidden",
    ],
)
def test_refuses_credentials_without_repeating_them(uri):
    with pytest.raises(StorageError, match="credentials in a URI") as caught:
        normalized(uri)
    assert "hidden" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


@pytest.mark.parametrize(("root", "path"), [("/a", "b/c"), ("/", "a"), ("s3://bucket", "a"), (S3, "b/c")])
def test_roundtrip_join_and_part(root, path):
    whole = joined(root, path)
    folder, name = parted(whole)
    assert name == path.rpartition("/")[2]
    assert joined(folder, name) == whole


def test_identity_a_query_stays_at_the_end():
    assert joined(S3, "b/c") == "s3://bucket/a/b/c?endpoint_override=host:1&scheme=http"
    assert joined(S3, "") == S3
