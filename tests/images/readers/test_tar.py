import io
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from stl_ray.config import Source
from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images import encode_png
from stl_ray.images.readers import open_reader, packed_rows
from stl_ray.images.readers.tar_file import TarIndex
from stl_ray.store import Storage


def png(value):
    return encode_png(np.full((8, 8, 3), value, np.uint8))


def write(file, members, kind=tarfile.PAX_FORMAT):
    """A tar of (name, bytes or a TarInfo); names are kept as they are."""
    with tarfile.open(file, "w", format=kind) as tar:
        for name, data in members:
            if isinstance(data, tarfile.TarInfo):
                tar.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 7
                tar.addfile(info, io.BytesIO(data))
    return file


def reader(path, limit=None):
    return open_reader(Source(format="tar", path=str(path), limit=limit), split="train")


def read(tars, shard_size=1000):
    return [image for shard in tars.plan(shard_size) for image in tars.read(shard.source)]


def facts(images):
    return [(image.id, image.label, image.problem) for image in images]


@pytest.fixture
def per_class(tmp_path):
    """One tar for each class, as ImageNet comes."""
    write(tmp_path / "n02.tar", [(f"n02_{value}.JPEG", png(value)) for value in (9, 1, 5)])
    write(
        tmp_path / "n01.tar", [("./n01_3.JPEG", png(3)), ("notes.txt", b"none"), ("./._n01_3.JPEG", b"resource fork")]
    )
    (tmp_path / "notes.txt").write_text("not read")
    return tmp_path


@pytest.fixture
def webdataset(tmp_path):
    """Two tars with labels beside the images, before them and after them."""
    first = [("a/x.jpg", png(0)), ("a/x.cls", b"2\n"), ("a/y.cls", b"0"), ("a/y.jpg", png(1))]
    second = [
        ("0001.json", b'{"label": 1}'),
        ("0001.png", png(2)),
        ("0002.json", b'{"caption": ""}'),
        ("0002.png", png(3)),
    ]
    write(tmp_path / "part-0.tar", first)
    write(tmp_path / "part-1.tar", second)
    return tmp_path


def test_identity_one_tar_per_class(per_class):
    tars = reader(per_class)
    assert tars.class_names == ["n01", "n02"]
    images = read(tars)
    expected = [("n01/n01_3.JPEG", 0), ("n02/n02_9.JPEG", 1), ("n02/n02_1.JPEG", 1), ("n02/n02_5.JPEG", 1)]
    assert [(image.id, image.label) for image in images] == expected
    assert [image.data for image in images] == [png(value) for value in (3, 9, 1, 5)]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_identity_the_class_is_the_last_folder(tmp_path, kind):
    long = "images/" + "deep/" * 18 + "cat/" + "x" * 80 + ".png"
    members = [("train/dog/1.png", png(1)), ("train/cat/2.png", png(2)), (long, png(3)), ("train/.git/3.png", b"")]
    tars = reader(write(tmp_path / "all.tar", members, kind))
    assert tars.class_names == ["cat", "dog"]
    images = read(tars)
    assert [(image.id, image.label) for image in images] == [
        ("all/train/dog/1.png", 1),
        ("all/train/cat/2.png", 0),
        (f"all/{long}", 0),
    ]
    assert [image.data for image in images] == [png(1), png(2), png(3)]
    assert images[0].path == "train/dog/1.png"


def test_identity_labels_beside_the_images(webdataset):
    tars = reader(webdataset)
    assert tars.class_names == ["0", "1", "2"]
    assert facts(read(tars)) == [
        ("part-0/a/x", 2, None),
        ("part-0/a/y", 0, None),
        ("part-1/0001", 1, None),
        ("part-1/0002", -1, None),
    ]
    (webdataset / "classes.txt").write_text("cat\ndog\nowl\nelk\n")
    named = reader(webdataset)
    assert named.class_names == ["cat", "dog", "owl", "elk"]
    assert facts(read(named)) == facts(read(tars))


@pytest.mark.parametrize(
    ("label", "found"), [(b"3", 3), (b"-1", -1), (b"x", -2), (b"", -2), (b"9" * 30, -2), (b"-5", -5)]
)
def test_refuses_single_labels_and_keeps_the_others(tmp_path, label, found):
    members = [("a.png", png(0)), ("a.cls", label), ("b.png", png(1)), ("b.cls", b"1")]
    (tmp_path / "classes.txt").write_text("zero\none\n")
    problem = None if found == -1 else QuarantineReason.LABEL_OUT_OF_RANGE
    assert facts(read(reader(write(tmp_path / "t.tar", members)))) == [("t/a", found, problem), ("t/b", 1, None)]


@pytest.mark.parametrize("text", ["{", "[1]", '{"caption": "cat"}', '{"label": null}', "[" * 9999])
def test_invariant_other_json_beside_images_gives_no_labels(tmp_path, text):
    members = [("cat/a.png", png(0)), ("cat/a.json", text.encode()), ("dog/a.png", png(1))]
    tars = reader(write(tmp_path / "t.tar", members))
    assert tars.class_names == ["cat", "dog"]
    assert facts(read(tars)) == [("t/cat/a.png", 0, None), ("t/dog/a.png", 1, None)]


@pytest.mark.parametrize("shard_size", [1, 2, 3, 1000])
def test_invariant_shards_chunks_and_limit(per_class, monkeypatch, shard_size):
    from stl_ray.images.readers import tar

    whole = read(reader(per_class))
    plan = list(reader(per_class).plan(shard_size))
    assert all(len({image.id for image in reader(per_class).read(shard.source)}) == shard.rows for shard in plan)
    assert len({shard.digest for shard in plan}) == len(plan)
    for size in (1, 2000, 10**9):
        monkeypatch.setattr(tar, "_CHUNK", size)
        assert read(reader(per_class), shard_size) == whole
    assert read(reader(per_class, limit=2), shard_size) == whole[:2]
    assert sum(shard.rows for shard in reader(per_class, limit=1).plan(shard_size)) == 1


def test_invariant_file_folder_and_pattern(per_class):
    assert facts(read(reader(per_class / "n0*.tar"))) == facts(read(reader(per_class)))
    alone = reader(per_class / "n02.tar")
    assert alone.class_names == ["n02"] and next(image.id for image in read(alone)) == "n02/n02_9.JPEG"


def test_identity_plans_of_ordinary_tars_are_those_of_the_first_version(tmp_path):
    """Digests by the code that read only labels beside their images: a run that was begun with it goes on."""
    kinds = [("jpg", b"x"), ("cls", b"%d")]
    pairs = [
        (f"deep/{n}.{kind}", data * n if kind == "jpg" else data % (n % 3)) for n in range(5) for kind, data in kinds
    ]
    sources = {
        "per_class": {"n01": [("1.JPEG", b"one"), ("notes.txt", b"")], "n02": [("2.JPEG", b"2"), ("2.JPEG", b"2")]},
        "folders": {"all": [("train/cat/1.png", b"1"), ("train/dog/2.1.png", b"22"), ("train/dog/2.1.xml", b"")]},
        "labelled": {"a": pairs, "b": [("7.json", b'{"label": 1}'), ("7.png", b"7"), ("8.png", b"8")]},
    }
    found = {}
    for folder, tars in sources.items():
        (tmp_path / folder).mkdir()
        for name, members in tars.items():
            write(tmp_path / folder / f"{name}.tar", members)
        found[folder] = [shard.digest[:16] for shard in reader(tmp_path / folder).plan(2)]
    assert found == {
        "per_class": ["9f38d4df11f8b529", "16d3a27835ef11b3"],
        "folders": ["7cc5972fa085bd72"],
        "labelled": ["47c8af80a3416f5e", "734f9871361a64df", "1e1db6b7625b9323", "0c2efad3b9917110"],
    }


def test_invariant_tars_that_differ_in_their_suffixes_have_other_ids(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"part.{number}", [("cat/1.png", png(number))])
    assert [image.id for image in read(reader(tmp_path / "part.*"))] == ["part.1/cat/1.png", "part.2/cat/1.png"]


def test_invariant_only_headers_are_read_to_plan(tmp_path, monkeypatch):
    file = write(tmp_path / "a.tar", [(f"{n}.png", bytes(100_000)) for n in range(20)])
    read_bytes, original = [], Storage.open(str(tmp_path)).files.__class__.read

    def counted(self, path, start=0, length=None):
        data = original(self, path, start, length)
        read_bytes.append(len(data))
        return data

    monkeypatch.setattr(Storage.open(str(tmp_path)).files.__class__, "read", counted)
    assert TarIndex.of(Storage.open(str(tmp_path)), "a.tar").rows.num_rows == 20
    assert sum(read_bytes) < 0.1 * file.stat().st_size


def test_invariant_an_index_takes_some_bytes_an_image(tmp_path):
    write(tmp_path / "a.tar", [(f"n01440764_{7 * n}.JPEG", b"") for n in range(3000)])
    before = pa.total_allocated_bytes()
    index = TarIndex.of(Storage.open(str(tmp_path)), "a.tar")
    assert pa.total_allocated_bytes() - before < 25 * index.images == 25 * 3000


def test_invariant_an_index_of_many_batches(tmp_path, monkeypatch):
    file = write(tmp_path / "a.tar", [(f"{n}.png", png(n)) for n in range(20)])
    whole = facts(read(reader(file)))
    monkeypatch.setattr(packed_rows, "_ROWS", 3)
    assert facts(read(reader(file))) == whole


def test_invariant_digest_follows_the_tar(per_class):
    before = {shard.source["file"]: shard.digest for shard in reader(per_class).plan(10)}
    os.utime(per_class / "n01.tar")
    write(per_class / "n02.tar", [(f"n02_{value}.JPEG", png(value)) for value in (9, 1)])
    after = {shard.source["file"]: shard.digest for shard in reader(per_class).plan(10)}
    assert after["n01.tar"] == before["n01.tar"] and after["n02.tar"] != before["n02.tar"]


def test_refuses_what_has_no_bytes_in_the_tar_and_keeps_the_others(tmp_path):
    link, device, hard = (tarfile.TarInfo(f"cat/{name}.png") for name in ("link", "device", "hard"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "cat/1.png"
    device.type = tarfile.CHRTYPE
    folder = tarfile.TarInfo("cat/x.png")
    folder.type = tarfile.DIRTYPE
    members = [("", folder), ("cat/1.png", png(1)), ("", link), ("", hard), ("", device), ("cat/2.png", png(2))]
    images = read(reader(write(tmp_path / "a.tar", members)))
    missing = QuarantineReason.MISSING_IMAGE
    assert [(image.id, image.problem) for image in images] == [
        ("a/cat/1.png", None),
        ("a/cat/link.png", missing),
        ("a/cat/hard.png", missing),
        ("a/cat/device.png", missing),
        ("a/cat/2.png", None),
    ]
    assert [image.data for image in images] == [png(1), None, None, None, png(2)]


def test_refuses_ids_after_the_first(tmp_path):
    write(tmp_path / "a.tar", [("x/1.png", png(1)), ("x/2.png", png(2)), ("x/1.png", png(3))])
    write(tmp_path / "b.tar", [("x/1.png", png(4))])
    again = QuarantineReason.DUPLICATE_ID
    for shard_size in (1, 2, 10):
        problems = [(image.id, image.problem) for image in read(reader(tmp_path), shard_size)]
        assert problems == [("a/x/1.png", None), ("a/x/2.png", None), ("a/x/1.png", again), ("b/x/1.png", None)]


@pytest.mark.parametrize("name", ["/etc/1.png", "../1.png", "cat/../../1.png"])
def test_refuses_names_that_lead_out(tmp_path, name):
    with pytest.raises(InputError, match=r"a\.tar: a name in it leads out of the tar"):
        list(reader(write(tmp_path / "a.tar", [(name, png(1))])).plan(10))


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar.xz"])
def test_refuses_compressed_tars(tmp_path, suffix):
    write(tmp_path / "a.tar", [("cat/1.png", png(1))])
    file = tmp_path / f"b.{suffix}"
    with tarfile.open(file, f"w:{'xz' if suffix == 'tar.xz' else 'gz'}"):
        pass
    for path in (tmp_path, file, tmp_path / "b.*"):
        with pytest.raises(InputError, match=rf"b\.{suffix}: a compressed tar cannot be read at one place"):
            list(reader(path).plan(10))
    file.rename(tmp_path / "b.tar")
    with pytest.raises(InputError, match=r"b\.tar: not a readable plain tar"):
        list(reader(tmp_path).plan(10))


def test_refuses_every_truncation(tmp_path):
    members = [(f"cat/{value}.png", png(value)) for value in range(3)]
    file = write(tmp_path / "a.tar", members)
    content = file.read_bytes()
    end = content.rindex(png(2)) + len(png(2))
    for keep in {0, 1, 511, 512, 513, 1024, 1025, end - 1, end, (end + 511) // 512 * 512, *range(0, end, 300)}:
        file.write_bytes(content[:keep])
        with pytest.raises(InputError, match=r"a\.tar"):
            list(reader(file).plan(10))


def test_refuses_a_damaged_header_and_a_second_tar_behind_the_first(tmp_path):
    members = [(f"cat/{value}.png", png(value)) for value in range(3)]
    file = write(tmp_path / "a.tar", members)
    content = file.read_bytes()
    place = content.index(b"cat/1.png")
    for damaged in (content[:place] + b"?" + content[place + 1 :], content + content, content + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.tar.*neither a header nor the end"):
            list(reader(file).plan(10))


def test_refuses_in_its_own_words_whatever_bytes_are_damaged(tmp_path):
    members = [(f"cat/{'x' * 120}{value}.png", png(value)) for value in range(2)]
    file = write(tmp_path / "a.tar", [*members, ("cat/1.cls", b"1")])
    content, generator = file.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content) - 8000, 3):
            damaged[place] = generator.integers(0, 256)
        file.write_bytes(damaged)
        try:
            read(reader(file))
        except InputError as error:
            assert "a.tar" in str(error) or str(tmp_path) in str(error)


def test_refuses_a_tar_that_changed_after_planning(per_class):
    tars = reader(per_class)
    plan = list(tars.plan(100))
    write(per_class / "n02.tar", [("other.png", os.urandom(9000))])
    with pytest.raises(InputError, match=r"n02\.tar: the tar is not the one that was planned"):
        list(tars.read(plan[1].source))
    (per_class / "n02.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"n02\.tar: the tar has become shorter"):
        list(tars.read(plan[1].source))
    (per_class / "n02.tar").unlink()
    with pytest.raises(InputError, match=r"n02\.tar: there is no such file"):
        list(tars.read(plan[1].source))


def test_refuses_missing_and_empty_sources(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.tar", tmp_path / "*.tar"):
        with pytest.raises(InputError, match="there are no tars here"):
            list(reader(path).plan(10))
    inner = write(tmp_path / "inner", [("cat/1.png", png(1))]).read_bytes()
    for members, message in [([], "hold no images"), ([("n01.tar", inner)], "have to be unpacked first")]:
        with pytest.raises(InputError, match=message):
            list(reader(write(tmp_path / "a.tar", members)).plan(10))


def test_refuses_labels_without_classes(tmp_path):
    for label in (b"-1", b"100000"):
        write(tmp_path / "a.tar", [("a.png", png(0)), ("a.cls", label)])
        with pytest.raises(InputError, match=r"no classes.*classes\.txt beside the tars"):
            list(reader(tmp_path).plan(10))
    for text in (b"cat\n\ndog", b"cat\ncat", b"\xff"):
        (tmp_path / "classes.txt").write_bytes(text)
        with pytest.raises(InputError, match=r"classes\.txt"):
            list(reader(tmp_path).plan(10))


def test_refuses_a_name_that_is_not_text(tmp_path):
    with pytest.raises(InputError, match="UTF-8"):
        list(reader(write(tmp_path / "a.tar", [("cat/\udcff.png", png(0))], tarfile.GNU_FORMAT)).plan(10))


def test_agrees_with_the_sources_json_as_the_plan_is_stored(webdataset):
    tars = reader(webdataset)
    stored = [json.loads(json.dumps(shard.source)) for shard in tars.plan(3)]
    assert [image for source in stored for image in tars.read(source)] == read(tars)
