"""Labels beside the images of tars, whose members lie in any order; what is not certain is refused by name."""

import io
import json
import posixpath
import tarfile
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_ray.config import Source
from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images.readers import open_reader, packed_rows
from stl_ray.images.readers.tar_join import _keys_of, key_of


def write(file, members):
    """A tar of (name, text, bytes or a TarInfo)."""
    with tarfile.open(file, "w") as tar:
        for name, data in members:
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if info is data else data.encode() if isinstance(data, str) else data
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def reader(path):
    return open_reader(Source(format="tar", path=str(path)), split="train")


def read(path):
    tars = reader(path)
    images = [image for shard in tars.plan(3) for image in tars.read(json.loads(json.dumps(shard.source)))]
    return tars, images


def labels(folder, members, classes=None):
    """The label of each id of a tar, and the names of the classes."""
    if classes is not None:
        (folder / "classes.txt").write_text("\n".join(classes), encoding="utf-8-sig")
    write(folder / "t.tar", members)
    tars, images = read(folder)
    assert len({image.id for image in images}) == len(images)
    return tars.class_names, {image.id: image.label for image in images}


def refused(folder, members, match, classes=None):
    with pytest.raises(InputError, match=match):
        labels(folder, members, classes)


FOLDERS = st.sampled_from(["", "a/", "a.b/", "deep/é.v2/", "line\n.x/"])
KEYS = st.builds(posixpath.join, FOLDERS, st.text("aB_é ~", min_size=1, max_size=4))
IMAGES = st.lists(st.sampled_from([".jpg", ".JPEG", ".left.png", ".right.png", ".v1.0.png"]), min_size=1, unique=True)
LABELS = st.lists(st.sampled_from([".cls", ".CLS", ".json", ".Json", ".jsn"]), unique_by=lambda name: name[1].lower())
OTHERS = st.lists(st.sampled_from([".npy", ".left.txt", ".seg.json", ".txt"]), unique=True)
HIDDEN = st.lists(st.sampled_from(["._a.cls", "a/.DS_Store", "__MACOSX/._a.jpg", "x/.y/z.png", "PaxHeaders.7/a.cls"]))


@settings(max_examples=100, deadline=None)
@given(
    samples=st.dictionaries(KEYS, st.tuples(IMAGES, LABELS, st.integers(0, 3), OTHERS), max_size=6),
    names=st.sampled_from(["0123", ["cow", "dog", "eel", "fox"]]),
    hidden=HIDDEN,
    data=st.data(),
)
def test_invariant_any_order_of_members_gives_the_same_labels(tmp_path_factory, samples, names, hidden, data):
    samples |= {f"last{label}": ([".png"], [".cls"], label, []) for label in range(4)}
    members, paths, expected = [(name, b"\0\5\x16\7") for name in hidden], [], {}
    for key, (images, files, label, others) in samples.items():
        text = {"c": names[label], "j": json.dumps({"label": names[label]})}
        members += [(key + file, text[file[1].lower()]) for file in files] + [(key + other, "{}") for other in others]
        paths += [key + image for image in images]
        for image in images:
            expected[f"t/{key}{image * (len(images) > 1)}"] = label if files else -1
    members = data.draw(st.permutations(members + [(path, "") for path in paths]))
    tars, found = read(write(tmp_path_factory.mktemp("wds") / "t.tar", members))
    assert tars.class_names == list(names)
    assert {image.id: image.label for image in found} == expected
    assert [image.path for image in found] == [name for name, _ in members if name in paths]


@given(st.lists(st.text("a.é\n ", min_size=1), min_size=1))
def test_agrees_the_key_of_a_path_with_the_keys_of_a_column(parts):
    path = "/".join(parts)
    assert _keys_of(pa.array([path])).to_pylist() == [key_of(path)]


def test_identity_a_tar_of_a_mac(tmp_path):
    fork = b"\0\5\x16\7"
    pairs = [(f"{n}.{kind}", "x" if kind == "png" else f"{n % 2}") for n in range(4) for kind in ("cls", "png")]
    members = [pair for name, data in pairs for pair in [(f"._{name}", fork), (name, data)]]
    members += [(".DS_Store", fork), ("__MACOSX/0.png", fork), ("PaxHeader/1.cls", "7")]
    assert labels(tmp_path, members) == (["0", "1"], {"t/0": 0, "t/1": 1, "t/2": 0, "t/3": 1})
    assert reader(tmp_path).left_out.record() == {"hidden": 11}


def test_identity_all_images_of_a_key_have_its_label(tmp_path):
    members = [("a.right.jpg", ""), ("b.jpg", ""), ("a.json", '{"label": "1"}'), ("b.cls", "0"), ("a.left.JPG", "")]
    expected = {"t/a.right.jpg": 1, "t/b": 0, "t/a.left.JPG": 1}
    assert labels(tmp_path, members) == (["0", "1"], expected)
    assert labels(tmp_path, members[::-1]) == (["0", "1"], expected)


def test_identity_names_are_sorted_or_looked_up(tmp_path):
    members = [("a.cls", "dog"), ("b.json", '{"label": "cat"}'), ("a.jpg", ""), ("b.jpg", ""), ("c.jpg", "")]
    assert labels(tmp_path, members) == (["cat", "dog"], {"t/a": 1, "t/b": 0, "t/c": -1})
    more = [("d.png", ""), ("d.cls", "1"), ("e.png", ""), ("e.cls", "Dog")]
    listed = ["dog", "cow", "cat"]
    assert labels(tmp_path, members + more, listed)[1] == {"t/a": 0, "t/b": 2, "t/c": -1, "t/d": 1, "t/e": -2}
    assert [image.problem for image in read(tmp_path)[1]][-1] is QuarantineReason.LABEL_OUT_OF_RANGE


@pytest.mark.parametrize(("texts", "classes"), [("012", None), (["cat", "dog", "2"], ["cat", "dog", "a long name"])])
def test_identity_texts_are_labels_where_there_are_no_others(tmp_path, texts, classes):
    members = [
        ("README.txt", "a"),
        *((f"{n}.TXT", text) for n, text in enumerate(texts)),
        *((f"{n}.png", "") for n in range(4)),
    ]
    found = labels(tmp_path, members, classes)
    assert found == (classes or ["0", "1", "2"], {"t/0": 0, "t/1": 1, "t/2": 2, "t/3": -1})
    assert reader(tmp_path).left_out.record() == {"files": {".txt": 1}}
    with_cls = [*members, ("2.cls", "1"), ("3.json", '{"label": 0}')]
    assert list(labels(tmp_path, with_cls, classes)[1].values()) == [-1, -1, 1, 0]
    assert reader(tmp_path).left_out.record() == {"files": {".txt": 4}}


def test_invariant_captions_are_no_labels(tmp_path):
    captions = ["a cat on a mat", "two dogs that run", "", "1,2 0.5\n3", "dog"]
    members = [
        pair for n, text in enumerate(captions) for pair in [(f"c{n % 2}/{n}.jpg", ""), (f"c{n % 2}/{n}.txt", text)]
    ]
    assert labels(tmp_path, members)[0] == ["c0", "c1"]
    assert reader(tmp_path).left_out.record() == {"files": {".txt": 5}}


PAIR = [("ok.png", ""), ("ok.cls", "0")]


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([*PAIR, ("x.cls", "1"), ("y.json", '{"label": 0}')], r"files without an image; .*got 2: t\.tar: x\.cls, t\.tar: y\.json$"),
        ([*PAIR, ("X.png", ""), ("x.cls", "1")], r"without an image; .*1: t\.tar: x\.cls$"),
        ([("x.cls", "cat"), ("y.cls", "dog"), ("y.png", "")], r"without an image; .*1: t\.tar: x\.cls$"),
        ([*PAIR, ("a/x.png", ""), ("b/x.cls", "1")], r"without an image; .*1: t\.tar: b/x\.cls$"),
        ([*PAIR, *((f"{n}.cls", "1") for n in range(9))], r"without an image.*got 9: t\.tar: 0\.cls, t\.tar: 1\.cls, t\.tar: 2\.cls, \.\.\."),
        ([*PAIR, ("ok.png", "")], r"members come twice; .*1: t\.tar: ok\.png$"),
        ([*PAIR, ("ok.cls", "0")], r"members come twice; .*1: t\.tar: ok\.cls$"),
        ([*PAIR, ("ok.CLS", "1")], r"members come twice; .*2: t\.tar: ok\.cls, t\.tar: ok\.CLS$"),
        ([*PAIR, ("ok.json", '{"label": 1}')], r"files of one key differ; .*1: t\.tar: ok\.json$"),
        ([*PAIR, ("x.png", ""), ("x.cls", "cat")], r"integers as well as names; .*1: t\.tar: ok\.png \(0\); 1: t\.tar: x\.png \(cat\)"),
        ([*PAIR, ("x.png", ""), ("x.fine.cls", "1")], r"a part between key and kind; .*1: t\.tar: x\.fine\.cls"),
        ([("x.v1.png", ""), ("x.v1.json", '{"label": 1}')], r"a part between key and kind; .*x\.v1\.json"),
        ([("a/x.png", ""), ("a/x.cls", "1.5")], r"hold no label; expected KEY\.cls.*1: t\.tar: a/x\.cls"),
        ([("a/x.png", ""), ("a/x.json", '{"label": true}')], r"hold no label; .*a/x\.json"),
        ([("x.png", ""), ("x.cls", b"\xff\xfe3\0")], r"hold no label; .*x\.cls"),
        ([("a/x.png", ""), ("a/x.txt", "cat")], r"texts beside images look like labels.*classes\.txt.*1: t\.tar: a/x\.txt"),
        ([("a/x.png", ""), ("a/x.txt", "1"), ("a/y.png", ""), ("a/y.txt", "1\n2")], r"look like labels.*1: t\.tar: a/y\.txt"),
        ([(f"a/{n}.{kind}", "a big cat") for n in range(4) for kind in ("png", "txt")], r"look like labels.*got 4"),
        ([("x.png", ""), ("x.txt", "a cat on a mat")], r"files lie beside images.*folder.*1: t\.tar: x\.txt"),
        ([("a/1.png", ""), ("x.png", ""), ("x.json", "{}")], r"files lie beside images.*1: t\.tar: x\.json"),
        ([("a/x.png", ""), ("a/x.txt", "0 .5 .5")], r"files lie beside images.*folders.*1: t\.tar: a/x\.txt"),
        ([("x.png", ""), ("x.label", "1"), ("y.label", "1")], r"files lie beside images.*1: t\.tar: x\.label"),
    ],
)  # fmt: skip
def test_refuses_what_is_not_certain_in_any_order(tmp_path, members, match):
    refused(tmp_path, members, rf"^{tmp_path}: .*{match}")
    refused(tmp_path, members[::-1], match.partition(".*")[0])


def test_refuses_with_classes_what_they_do_not_list(tmp_path):
    both = [("a.png", ""), ("a.cls", "1"), ("a.json", '{"label": "cat"}')]
    refused(tmp_path, both, r"files of one key differ.*a\.json", ["cat", "dog"])
    assert labels(tmp_path, both, ["dog", "cat"])[1] == {"t/a": 1}
    refused(tmp_path, [("a.png", ""), ("a.cls", "Cat")], r"hold no label.*a\.cls", ["cat", "dog"])
    refused(tmp_path, [("a.png", ""), ("a.txt", "Cat")], r"look like labels.*a\.txt", ["cat", "dog"])
    refused(tmp_path, [("a.png", ""), ("a.txt", "1"), ("b.txt", "0")], r"without an image.*b\.txt", ["cat", "dog"])


def test_refuses_over_many_tars(tmp_path):
    write(tmp_path / "a.tar", PAIR)
    write(tmp_path / "b.tar", [("x.png", ""), ("x.txt", "1"), ("y.txt", "any")])
    assert [image.label for image in read(tmp_path)[1]] == [0, -1]  # there is a cls in another tar
    write(tmp_path / "c.tar", [("x.cls", "1")])
    with pytest.raises(InputError, match=r"label files without an image; .*1: c\.tar: x\.cls$"):
        read(tmp_path)  # an image of that key is in another tar
    write(tmp_path / "c.tar", [("x.cls", "cat"), ("x.png", "")])
    with pytest.raises(
        InputError, match=r"integers as well as names; .*1: a\.tar: ok\.png \(0\); 1: c\.tar: x\.png \(cat\)"
    ):
        read(tmp_path)


def test_refuses_single_labels_without_bytes_and_keeps_the_others(tmp_path):
    link = tarfile.TarInfo("x.cls")
    link.type, link.linkname = tarfile.LNKTYPE, "ok.cls"
    members = [*PAIR, ("x.png", ""), ("", link), ("y.png", ""), ("y.json", "{"), ("z.json", "{")]
    members += [("a.png", ""), ("a.json", '{"label": 0}'), ("a.cls", "1.5")]
    assert labels(tmp_path, members)[1] == {"t/ok": 0, "t/x": -2, "t/y": -2, "t/a": -2}
    assert reader(tmp_path).left_out.record() == {"files": {".json": 1}}


def test_refuses_labels_without_any_image(tmp_path):
    refused(tmp_path, [("x.cls", "1"), ("x.heic", "")], "the tars hold no images")


@pytest.mark.parametrize("name", ["line\nx.cls", "caf\udce9.cls"])
def test_refuses_names_of_members_as_they_can_be_printed(tmp_path, name):
    with pytest.raises(InputError) as error:
        labels(tmp_path, [*PAIR, (name, "1")])
    assert str(error.value).isprintable()


def test_identity_other_files_may_have_any_names(tmp_path):
    members = [("cat/1.png", ""), ("caf\udce9.pdf", ""), ("caf\udce9.json", "{}"), ("cat/1.png.md5", "")]
    assert labels(tmp_path, [*members, ("dog/2.png", "")]) == (["cat", "dog"], {"t/cat/1.png": 0, "t/dog/2.png": 1})
    assert reader(tmp_path).left_out.record() == {"files": {".pdf": 1, ".json": 1, ".md5": 1}}


def test_invariant_members_never_become_objects_all_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_rows, "_ROWS", 100)
    count = 5000
    members = [(f"x/{n}.{kind}", str(n % 7)) for kind in ("cls", "png") for n in range(count)]
    tars = reader(write(tmp_path / "t.tar", members))
    tracemalloc.start()
    plan = (label for shard in tars.plan(100) for label in shard.source["labels"])
    assert all(label == n % 7 for n, label in enumerate(plan))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60 * count  # one path as an object is as large, and there are two and a label of each image
