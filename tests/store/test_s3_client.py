"""What the options of an s3 URI make of boto's client; no server is asked."""

import pytest

from stl_ray.errors import InputError
from stl_ray.store.s3 import _client


@pytest.fixture(autouse=True)
def of_this_environment(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    _client.cache_clear()
    yield
    _client.cache_clear()


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        ("endpoint_url=http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("endpoint_url=https%3A%2F%2F127.0.0.1", "https://127.0.0.1"),
        ("endpoint_override=127.0.0.1:9000&scheme=http", "http://127.0.0.1:9000"),
        ("endpoint_override=127.0.0.1:9000", "https://127.0.0.1:9000"),
        ("endpoint_override=http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("region=eu-west-1&endpoint_url=http://127.0.0.1:9000", "http://127.0.0.1:9000"),
    ],
)
def test_identity_the_server_is_the_one_that_is_named(options, endpoint):
    meta = _client(options).meta
    assert meta.endpoint_url == endpoint
    assert meta.region_name == ("eu-west-1" if "region" in options else "us-east-1")


def test_identity_only_anonymous_requests_go_unsigned(monkeypatch):
    assert _client("anonymous=false").meta.config.signature_version == "s3v4"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    url = _client("anonymous=true").generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "a"})
    assert "?" not in url  # it is the object's own


def test_refuses_a_region_that_can_be_none():
    with pytest.raises(InputError, match=r"region_name 'a/b' .*; expected such as us-east-1"):
        _client("region=a/b")
