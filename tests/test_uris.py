from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stl_ray.errors import InputError
from stl_ray.store.s3 import S3Files
from stl_ray.uris import is_uri, joined, normalized, parted, split

S3 = "s3://bucket/a?endpoint_override=host:1&scheme=http"
URL = "s3://bucket/a?endpoint_url=http://host:1&region=r"

# Letters of no meaning, and all that have one somewhere.
TEXT = st.text(st.one_of(st.sampled_from("ab=:/~.#?%&+[]*'\"\\ ;@é\n\t"), st.characters()), max_size=20)


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("/a/b/", "/a/b"),
        ("//a//./b", "/a/b"),
        ("/a/#1 [x]?y=1%20&+'\"\\", "/a/#1 [x]?y=1%20&+'\"\\"),
        ("/a://b", "/a:/b"),
        ("file:///a%20b/c", "/a b/c"),
        ("file://localhost/a%2525#1?", "/a%25#1?"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("S3://bucket/", "s3://bucket"),
        ("s3://bucket/a/?region=r", "s3://bucket/a?region=r"),
        ("s3://bucket?region=r", "s3://bucket?region=r"),
        (S3, S3),
        (URL, URL),
        ("gs://bucket", "gs://bucket"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
        ("hdfs://host:8020/a?dfs.replication=2", "hdfs://host:8020/a?dfs.replication=2"),
    ],
)
def test_identity_of_what_a_place_means(uri, meant):
    assert normalized(uri) == meant
    assert normalized(meant) == meant


def test_a_relative_path_is_taken_from_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert normalized("a") == str(tmp_path / "a")
    assert normalized("./~") == str(tmp_path / "~")
    assert normalized("a~/s3://b") == str(tmp_path / "a~" / "s3:" / "b")
    assert (normalized("~"), normalized("~/a")) == ("/home/me", "/home/me/a")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "an empty place; expected a path, or a URI such as s3://bucket/folder"),
        ("s3:/bucket/a", r"neither a URI nor clearly a path; expected a URI .* or \./s3:/bucket/a for a folder"),
        (" s3://bucket/a", "neither a URI nor clearly a path"),
        ("C:/a", "neither a URI nor clearly a path"),
        ("~nobody-of-this-name/a", r"there is no such home folder; expected .* \./~nobody-of-this-name/a"),
        ("/a\nb", r"^'/a\\nb': a place has no line breaks, .*; got '\\n'"),
        ("/a\0", r"got '\\x00'"),
        ("s3://bucket/a\tb", r"got '\\t'"),
        ("/a\udcff", r"bytes that are not UTF-8; got '\\udcff'"),
        ("s3://bucket/a//b", "a folder without a name; expected single slashes"),
        ("s3://bucket//a", "a folder without a name"),
        ("s3://bucket/a//", "a folder without a name"),
        ("s3://bucket/why?no/", r"reads like options of a URI; expected no \?name in it"),
        ("s3://bucket/a/../b", r"neither \. nor \.\. as a name"),
        ("s3:///a", r"no bucket; expected s3://bucket/folder"),
        ("file://data/a", r"file://data/a: a file URI names no host; expected file:///data/a"),
        ("file:///100%/a", "% begins a byte .*; expected %25 for the sign itself"),
        ("file:///a%FF", "its bytes are not UTF-8"),
        ("file:///a%0Ab", "no line breaks"),
        ("file:///a?b=1", r"no option 'b'; expected none, and %3F for a question mark of the path itself"),
    ],
)
def test_refuses_what_has_no_one_meaning(place, message):
    with pytest.raises(InputError, match=message):
        normalized(place)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hidden@bucket/a",
        "s3://AKIA@bucket/a",
        "s3://AKIA:hidden@bucket/a\n",
        "s3://bucket/a?secret_key=hidden",
        "s3://bucket/a?secret%5Fkey=hidden",
        "s3://bucket/a?access_key=hidden",
        "s3://bucket/a?session_token=hidden",
        "s3://bucket/a?session_token=hidden?region=r",
        "s3://bucket/a?endpoint_url=http://AKIA:hidden@host:1",
        "s3://bucket/a?endpoint_override=AKIA:hidden%40host:1",
        "abfss://container:hidden@account.dfs.core.windows.net/a",
    ],
)
def test_refuses_credentials_without_repeating_them(uri):
    with pytest.raises(InputError, match="credentials in a URI") as caught:
        normalized(uri)
    assert "hidden" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_refuses_users_that_stand_for_none():
    with pytest.raises(InputError, match=r"a URI has no user; expected s3://bucket/folder\?anonymous=true"):
        normalized("s3://anonymous@bucket/a")
    with pytest.raises(InputError, match="a URI has no user; expected a key; it cannot be read without"):
        normalized("gs://anonymous@bucket/a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("endpoint=h:1", r"s3://bucket/a: .* no option 'endpoint'; expected 'endpoint_url'\? \(one of anonymous, "),
        ("endpoint_override=h:1&schema=http", r"no option 'schema'; expected 'scheme'\?"),
        ("region_name=eu-west-1", r"no option 'region_name'; expected 'region'\?"),
        ("ENDPOINT_URL=http://h:1", r"no option 'ENDPOINT_URL'; expected 'endpoint_url'\?"),
        ("anonymos", r"no option 'anonymos'; expected 'anonymous'\?"),
        ("anonymous", "the option 'anonymous'; expected one value; got none"),
        ("region=a&", "no option ''"),
        ("region=", "the option 'region'; expected one value; got none"),
        ("region=a&region=b", "the option 'region'; expected one value; got several"),
        ("anonymous=yes", "the option 'anonymous'; expected true, .* or false; got yes"),
        ("endpoint_url=h:1", "the option 'endpoint_url'; expected http://host:port .*; got h:1"),
        ("endpoint_url=http://h:1&endpoint_override=h:1", "the option 'endpoint_url'; expected .*, alone; got"),
        ("endpoint_override=ftp://h:1", "the option 'endpoint_override'; expected host:port"),
        ("endpoint_override=h:1&scheme=https:", "the option 'scheme'; expected http or https"),
        ("endpoint_override=http://h:1&scheme=https", "the option 'scheme'; expected http or https, beside"),
        ("scheme=http", "the option 'scheme'; expected http or https, beside an endpoint_override"),
    ],
)
def test_refuses_options_that_would_be_passed_over(options, message):
    with pytest.raises(InputError, match=message):
        normalized(f"s3://bucket/a?{options}")


def test_refuses_unknown_options_of_every_scheme_that_has_a_list():
    for uri in ("gs://bucket/a?endpoint=h:1", "abfs://account.blob.core.windows.net/c?enable_tl=true"):
        with pytest.raises(InputError, match=r"a URI of this kind has no option .*; expected '.*'\?"):
            normalized(uri)


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/a", "b/c"),
        ("/", "a"),
        ("/a?x=1#2", "b"),
        ("s3://bucket", "a"),
        (S3, "b/c"),
        (URL, "b?c"),
        ("s3://b/x?.y", "z#?"),
    ],
)
def test_roundtrip_join_and_part(root, path):
    whole = joined(root, path)
    folder, name = parted(whole)
    assert name == path.rpartition("/")[2]
    assert joined(folder, name) == whole
    assert normalized(whole) == whole


@pytest.mark.parametrize(
    ("uri", "key", "options"),
    [
        ("hdfs://host/a?dfs.replication=2", "a", "dfs.replication=2"),
        ("s3://bucket/a?b=c?region=r", "a?b=c", "region=r"),
        ("s3://bucket/a?v2.parquet", "a?v2.parquet", ""),
        ("s3://bucket/train-?????.tar", "train-?????.tar", ""),
        ("s3://bucket/a?anonymous", "a", "anonymous"),
    ],
)
def test_identity_options_begin_behind_the_last_question_mark_before_a_name(uri, key, options):
    assert (split(uri).key, split(uri).options) == (key, options)


def test_identity_options_stay_at_the_end():
    assert joined(S3, "b/c") == "s3://bucket/a/b/c?endpoint_override=host:1&scheme=http"
    assert joined(URL, "b") == "s3://bucket/a/b?endpoint_url=http://host:1&region=r"
    assert joined(S3, "") == S3
    assert parted("s3://bucket?region=r") == ("s3://bucket?region=r", "")


@given(key=TEXT)
@example(key="exp#1")
@example(key="50% a%20b+c")
@example(key="what?.parquet")
@example(key="a?b=c")
@example(key="a?region=c")
@example(key="?A/")
def test_roundtrip_a_key_is_what_is_written_or_is_refused(key):
    for options in ("", "?region=r"):
        try:
            place = normalized(f"s3://bucket/{key}{options}")
        except InputError:
            continue
        parts = split(place)
        if not options and parts.options:
            assert set(parts.options.split("=")) & {"region", "anonymous"}  # it was written so
            continue
        assert normalized(place) == place
        assert (parts.host, parts.key) == ("bucket", key.removesuffix("/"))
        assert S3Files(joined(place, "part"))._key("x") == "/".join([*filter(None, [parts.key]), "part", "x"])


@given(path=TEXT)
@example(path="~")
@example(path="~/~")
@example(path="a/./../b//")
def test_roundtrip_a_path_is_what_is_written_or_is_refused(path):
    assume(not is_uri(path))
    for written in (path, f"./{path}", f"/{path}"):
        try:
            place = normalized(written)
        except InputError:
            continue
        home = written.partition("/")[0] == "~"
        assert place == "/" + str(Path.home() / written[2:] if home else Path.cwd() / written).lstrip("/")
        assert normalized(place) == place
        if "\\" not in path:  # which as_uri escapes as any other
            assert normalized(Path(place).as_uri()) == place
