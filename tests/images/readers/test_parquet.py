import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.config import Source
from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images import encode_png, image_schema
from stl_ray.images.readers import open_reader

NAMES = ["cat", "dog", "owl"]


def png(value):
    return encode_png(np.full((8, 8, 3), value, np.uint8))


def rows(ids, start=0):
    return [
        {"id": name, "image": {"bytes": png(start + index), "path": f"{name}.png"}, "label": (start + index) % 3}
        for index, name in enumerate(ids)
    ]


def write(file, records, schema=None, rows_per_group=4):
    schema = image_schema("image", NAMES) if schema is None else schema
    pq.write_table(pa.Table.from_pylist(records, schema=schema), file, row_group_size=rows_per_group)
    return file


def reader(path, limit=None):
    return open_reader(Source(format="parquet", path=str(path), limit=limit), split="train")


def read(parquet, shard_size=1000):
    return [image for shard in parquet.plan(shard_size) for image in parquet.read(shard.source)]


@pytest.fixture
def dataset(tmp_path):
    """Two files of 10 and 7 rows with different ids."""
    write(tmp_path / "a.parquet", rows([f"a{index}" for index in range(10)]))
    write(tmp_path / "b.parquet", rows([f"b{index}" for index in range(7)], start=10))
    (tmp_path / "notes.txt").write_text("not read")
    return tmp_path


def test_roundtrip_our_schema(dataset):
    parquet = reader(dataset)
    assert parquet.class_names == NAMES
    images = read(parquet)
    assert [image.id for image in images] == [f"a{i}" for i in range(10)] + [f"b{i}" for i in range(7)]
    assert [image.data for image in images] == [png(value) for value in range(17)]
    assert [image.label for image in images] == [value % 3 for value in range(17)]
    assert images[0].path == "a0.png" and all(image.problem is None for image in images)


@pytest.mark.parametrize("shard_size", [1, 3, 4, 9, 10, 1000])
def test_invariant_shards_of_any_size_cut_across_row_groups(dataset, shard_size):
    parquet = reader(dataset)
    plan = list(parquet.plan(shard_size))
    assert all(len(list(parquet.read(shard.source))) == shard.rows <= shard_size for shard in plan)
    assert [image.data for image in read(parquet, shard_size)] == [png(value) for value in range(17)]
    assert len({shard.digest for shard in plan}) == len(plan)


def test_invariant_file_folder_glob_and_limit(dataset):
    assert [image.id for image in read(reader(dataset / "b.parquet"))] == [f"b{index}" for index in range(7)]
    assert [image.id for image in read(reader(dataset / "[ab].parquet"))] == [
        image.id for image in read(reader(dataset))
    ]
    assert [image.id for image in read(reader(dataset, limit=12), 5)][-3:] == ["a9", "b0", "b1"]
    assert [shard.rows for shard in reader(dataset, limit=12).plan(5)] == [5, 5, 2]
    assert [shard.rows for shard in reader(dataset, limit=10).plan(100)] == [10]


def test_invariant_shards_cut_across_the_batches_of_a_large_row_group(tmp_path):
    write(tmp_path / "a.parquet", rows([f"{index:03d}" for index in range(200)]), rows_per_group=200)
    images = read(reader(tmp_path), 90)
    assert [image.id for image in images] == [f"{index:03d}" for index in range(200)]
    assert [image.data for image in images] == [png(value) for value in range(200)]


def test_invariant_digest_follows_the_file(dataset):
    before = {shard.source["stem"]: shard.digest for shard in reader(dataset).plan(100)}
    size = (dataset / "b.parquet").stat().st_size
    write(dataset / "b.parquet", rows([f"c{index}" for index in range(7)], start=10))
    assert (dataset / "b.parquet").stat().st_size == size  # so that it is the footer that tells
    after = {shard.source["stem"]: shard.digest for shard in reader(dataset).plan(100)}
    assert after["a"] == before["a"] and after["b"] != before["b"]


def test_identity_ids_from_places_where_there_are_none(tmp_path):
    schema = pa.schema([("image", pa.binary()), ("label", pa.int32())])
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        records = [{"image": png(index), "label": index} for index in range(5)]
        write(tmp_path / folder / "part-0.parquet", records, schema)
    assert [image.id for image in read(reader(tmp_path / "x"), 2)] == [f"part-0/{row}" for row in range(5)]
    assert [image.id for image in read(reader(tmp_path / "*" / "*.parquet"))][3:7] == [
        "x/part-0/3",
        "x/part-0/4",
        "y/part-0/0",
        "y/part-0/1",
    ]


def test_identity_hugging_face_columns_by_their_marks(tmp_path):
    metadata = image_schema("image", NAMES).metadata[b"huggingface"]
    marked = metadata.replace(b'"image"', b'"img"').replace(b'"label"', b'"fine_label"')
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("coarse_label", pa.int64()),
            ("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("fine_label", pa.int64()),
        ],
        metadata={"huggingface": marked},
    )
    record = {"id": 7, "coarse_label": 99, "img": {"bytes": png(1), "path": None}, "fine_label": 2}
    parquet = reader(write(tmp_path / "hf.parquet", [record], schema))
    assert parquet.class_names == NAMES
    (image,) = read(parquet)
    assert (image.id, image.label, image.data, image.problem) == ("7", 2, png(1), None)


def test_identity_classes_are_numbered_where_the_metadata_names_none(tmp_path):
    write(tmp_path / "a.parquet", rows("abcde"), image_schema("image", None))
    parquet = reader(tmp_path)
    assert parquet.class_names == ["0", "1", "2"]
    assert all(image.problem is None for image in read(parquet))


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_identity_labels_that_are_names(tmp_path, kind):
    for file, names in {"a": ["owl", "cat", None], "b": ["dog", "owl"]}.items():
        table = pa.table({"image": [png(0)] * len(names), "label": pa.array(names, kind)})
        pq.write_table(table, tmp_path / f"{file}.parquet", row_group_size=2)
    parquet = reader(tmp_path)
    assert parquet.class_names == NAMES
    for shard_size in (1, 2, 10):
        assert [(image.label, image.problem) for image in read(parquet, shard_size)] == [
            (label, None) for label in (2, 0, -1, 1, 2)
        ]
    assert [image.label for image in read(reader(tmp_path, limit=4))] == [2, 0, -1, 1]
    pq.write_table(pa.table({"image": [png(0)], "label": [0]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"c\.parquet: its labels are names, or the first file's are"):
        read(reader(tmp_path))


def test_refuses_single_rows_and_keeps_the_others(tmp_path):
    records = rows("abcdefgh")
    records[1]["label"] = 3
    records[2]["label"] = -2
    records[3]["label"] = -1
    records[4]["label"] = None
    records[5]["image"]["bytes"] = None
    records[6]["image"] = None
    records[7]["image"]["bytes"] = b""
    images = read(reader(write(tmp_path / "a.parquet", records)))
    wrong = QuarantineReason.LABEL_OUT_OF_RANGE
    assert [image.problem for image in images] == [None, wrong, wrong, None, None, None, None, None]
    assert [image.label for image in images[1:5]] == [3, -2, -1, -1]
    assert [image.data is None for image in images] == [False] * 5 + [True] * 3


def test_refuses_files_of_which_no_row_has_bytes(tmp_path):
    records = rows("abcdef")
    for record in records:
        record["image"]["bytes"] = None
    write(tmp_path / "a.parquet", records)
    with pytest.raises(InputError, match=r"a\.parquet: no row has an image's bytes"):
        read(reader(tmp_path))
    plain = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    write(tmp_path / "a.parquet", [{"image": None, "label": 0}] * 5, plain)
    with pytest.raises(InputError, match="no row has an image's bytes"):
        read(reader(tmp_path))
    write(tmp_path / "b.parquet", [{"image": png(0), "label": 0}], plain)
    assert [image.data is None for image in read(reader(tmp_path))] == [True] * 5 + [False]


def test_refuses_duplicate_ids_after_the_first_across_files(tmp_path):
    write(tmp_path / "a.parquet", rows(["x", "y", "x", None, None]))
    write(tmp_path / "b.parquet", rows(["z", "y", "w"], start=5))
    expected = [("x", None), ("y", None), ("x", "duplicate_id"), ("a/3", None), ("a/4", None)]
    expected += [("z", None), ("y", "duplicate_id"), ("w", None)]
    for shard_size in (2, 1000):
        assert [(image.id, image.problem) for image in read(reader(tmp_path), shard_size)] == expected


@pytest.mark.parametrize("keep", [0, 3, 40, -1, -2000])
def test_refuses_a_truncated_file_by_name(dataset, keep):
    file = dataset / "b.parquet"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"b\.parquet"):
        list(reader(dataset).plan(100))


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_refuses_damaged_pages_by_name_and_reads_the_sound_row_groups(tmp_path, damaged):
    file = tmp_path / "a.parquet"
    table = pa.Table.from_pylist(rows("abcdef"), schema=image_schema("image", NAMES))
    pq.write_table(table, file, compression="zstd", row_group_size=2)
    parquet = reader(file)
    plan = list(parquet.plan(2))
    start = pq.read_metadata(file).row_group(damaged).column(1).dictionary_page_offset
    content = bytearray(file.read_bytes())
    content[start : start + 60] = bytes(60)
    file.write_bytes(content)
    for number, shard in enumerate(plan):
        if number == damaged:
            with pytest.raises(InputError, match=r"a\.parquet"):
                list(parquet.read(shard.source))
        else:
            assert len(list(parquet.read(shard.source))) == 2


def test_refuses_a_file_that_changed_after_planning(dataset):
    parquet = reader(dataset)
    plan = list(parquet.plan(100))
    write(dataset / "b.parquet", rows("xy"))
    with pytest.raises(InputError, match="shorter"):
        list(parquet.read(plan[1].source))
    (dataset / "b.parquet").unlink()
    with pytest.raises(InputError, match=r"no such file"):
        list(parquet.read(plan[1].source))


def test_refuses_missing_and_empty_sources(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "*.parquet"):
        with pytest.raises(InputError, match="no Parquet files"):
            list(reader(path).plan(10))
    write(tmp_path / "a.parquet", [])
    with pytest.raises(InputError, match="no rows"):
        list(reader(tmp_path).plan(10))


def test_refuses_files_that_do_not_fit_together(dataset):
    write(dataset / "c.parquet", rows("xyz"), image_schema("image", [*NAMES, "elk"]))
    with pytest.raises(InputError, match=r"c\.parquet.*first file"):
        list(reader(dataset).plan(10))


def test_refuses_a_senseless_number_of_classes(tmp_path):
    records = rows("ab")
    records[1]["label"] = 10**6
    write(tmp_path / "a.parquet", records, image_schema("image", None))
    with pytest.raises(InputError, match="1000000 as"):
        list(reader(tmp_path).plan(10))


def test_roundtrip_bytes_and_texts_of_other_layouts(tmp_path):
    """As pandas, polars and DuckDB write them; ids and paths that are no text become text."""
    pngs, count = [png(0), png(1), png(2)], 3
    for image in (pa.large_binary(), pa.binary_view(), pa.binary(), pa.dictionary(pa.int32(), pa.binary())):
        struct = pa.struct([("bytes", image), ("path", pa.int32())])
        for column in (pa.array(pngs, image),
                       pa.array([{"bytes": data, "path": 7} for data in pngs], struct)):  # fmt: skip
            table = pa.table({"image": column, "label": pa.array(range(count), pa.uint8()).dictionary_encode()})
            pq.write_table(table, tmp_path / "a.parquet")
            images = read(reader(tmp_path))
            assert [image.data for image in images] == pngs and [image.label for image in images] == [0, 1, 2]
            assert images[0].path == ("7" if pa.types.is_struct(column.type) else None)
    texts = pa.array(["x", "y", "x"])
    for ids in (
        texts.cast(pa.large_string()),
        texts.cast(pa.string_view()),
        texts.dictionary_encode(),
        texts.cast(pa.binary()),
    ):
        pq.write_table(pa.table({"image": pngs, "label": [0, 1, 2], "ID": ids}), tmp_path / "a.parquet")
        assert [(image.id, image.problem) for image in read(reader(tmp_path))] == [
            ("x", None), ("y", None), ("x", "duplicate_id"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([("label", pa.int64())]), "no image column"),
        (pa.schema([("image", pa.binary())]), "no label column"),
        (pa.schema([("image", pa.binary()), ("label", pa.int64())]), "no classes.*no label in any row"),
    ],
)
def test_refuses_other_columns(tmp_path, schema, message):
    write(tmp_path / "a.parquet", [{}, {}], schema)
    with pytest.raises(InputError, match=message):
        _ = reader(tmp_path).class_names


def test_agrees_with_the_shared_datasets(shared_data):
    cifar = reader(shared_data / "cifar10" / "train-*.parquet", limit=10_050)
    assert cifar.class_names[3] == "cat"
    plan = list(cifar.plan(1000))
    assert sum(shard.rows for shard in plan) == 10_050
    images = list(cifar.read(plan[-1].source))
    assert len(images) == 50 and all(image.problem is None for image in images)
    assert images[0].id == "train-10000"


def test_invariant_a_pattern_takes_no_file_twice_by_a_link(dataset):
    (dataset / "c").mkdir()
    write(dataset / "c" / "c.parquet", rows(["c0"]))
    for link, target in {"c/up": "..", "d": "c", "c/again": ".", "gone": "nowhere", "round": "round"}.items():
        (dataset / link).symlink_to(target)
    assert [image.id for image in read(reader(dataset / "*" / "*.parquet"))] == ["c0"]
    with pytest.raises(InputError, match="no Parquet files"):
        read(reader(dataset / "*" / "*" / "*.parquet"))


@pytest.mark.parametrize("target", ["nowhere", "x.parquet"])
def test_refuses_a_link_that_leads_to_no_file_by_name(dataset, target):
    (dataset / "x.parquet").symlink_to(target)
    with pytest.raises(InputError, match=r"x\.parquet: there is no such file"):
        read(reader(dataset))
