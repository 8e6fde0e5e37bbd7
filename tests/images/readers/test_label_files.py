import pytest

from stl_ray.images.readers.label_files import LARGEST, NOT_A_LABEL, Kind, LabelFile, read_label

BAD = (NOT_A_LABEL, None)


def said(path, data):
    return read_label(path, lambda kind: data)


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"3", (3, None)),
        (b"\xef\xbb\xbf 007\r\n", (7, None)),
        (b"-1", (-1, None)),
        (b"+2", (2, None)),
        (b"n01440764\n", (None, "n01440764")),
        ("é, ü b".encode(), (None, "é, ü b")),
        (b"9" * 18, BAD),
        *(
            (data, BAD)
            for data in (b"", b" \n", b"1.5", b"1e3", b"nan", "٣".encode(), b"two\nlines", b"a\0", b"\xff\xfe3\0")
        ),
        (b"x" * 255, (None, "x" * 255)),
        (b"x" * 256, BAD),
        (None, BAD),
    ],
)
def test_identity_a_label_is_an_integer_or_one_line(data, label):
    assert said("a.CLS", data) == LabelFile(Kind.CLS, *label)
    texts = (None, None) if label == BAD else label
    assert said("a.b/a.txt", data) == said("a.Text", data) == LabelFile(Kind.TXT, *texts)


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ('{"label": 3, "more": [1]}', LabelFile(Kind.JSON, 3)),
        ('{"label": "3"}', LabelFile(Kind.JSON, 3)),
        ('{"label": 3.0}', LabelFile(Kind.JSON, 3)),
        ('{"label": "cat"}', LabelFile(Kind.JSON, None, "cat")),
        *(
            (f'{{"label": {label}}}', LabelFile(Kind.JSON, *BAD))
            for label in ("true", "1.5", "[1]", '""', "1e300", "NaN")
        ),
        (r'{"label": "\ud800"}', LabelFile(Kind.JSON, *BAD)),
        *((text, LabelFile(Kind.OTHER)) for text in ('{"label": null}', "{}", "[1]", "3", '{"class": 3}')),
        *((text, LabelFile(Kind.JSON)) for text in ("", "{", "[" * 9999, "9" * 5000)),
    ],
)
def test_identity_the_field_label_of_a_json(text, file):
    assert said("a.json", text.encode()) == said("a.JSN", text.encode()) == file
    assert said("a.left.json", text.encode()).kind is (Kind.OTHER if file.is_silent else Kind.PART)


def test_invariant_only_what_may_be_a_label_is_read():
    asked = []
    paths = ["a.png.cls", "cls", "a.cls.gz", "a.mp3", "a.left.txt", "cls/a", "a.txt", "b.v2/a.json"]
    files = [read_label(path, lambda kind: asked.append(kind)) for path in paths]
    assert [file.kind for file in files] == [Kind.PART, *[Kind.OTHER] * 5, Kind.TXT, Kind.JSON]
    assert asked == [Kind.CLS, Kind.TXT, Kind.JSON] and LARGEST == 2**20
