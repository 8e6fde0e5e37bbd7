import hashlib
import json
import re

import pytest
from torchvision import models

from stl_ray.config.classifiers import IMAGENET
from stl_ray.errors import ConfigError, InputError, StorageError
from stl_ray.models import classes_of, imagenet, logits_of
from stl_ray.models.imagenet import NAMES, WNIDS

# sha256 of the ids of ILSVRC 2012, sorted, a line each; known before the list was here.
DIGEST = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
DATASET = ("cat", "dog")
TEN = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079"]
TEN += ["n03394916", "n03417042", "n03425413", "n03445777", "n03888257"]
SYNONYMS = ["Tinca tinca", "English springer spaniel", "cassette player", "chainsaw", "church building"]
SYNONYMS += ["horn, French horn", "dustcart", "petrol pump", "golf ball", "chute"]
PLACES = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


def test_identity_the_thousand_classes_are_ilsvrc_s_in_torchvision_s_order():
    assert hashlib.sha256("\n".join(WNIDS).encode()).hexdigest() == DIGEST
    assert list(NAMES) == models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    assert len(set(NAMES)) == 1000
    assert all(place in imagenet.candidates(name) for place, name in enumerate(NAMES))
    assert [imagenet.candidates(wnid) for wnid in WNIDS] == [{place} for place in range(1000)]


@pytest.mark.parametrize(
    "name",
    ["timber wolf", "grey wolf", "Canis_lupus", "GRAY WOLF", "timber wolf, grey wolf", "n02114367", "269", "0269"],
)
def test_identity_a_class_by_any_of_its_names(name):
    assert imagenet.candidates(name) == {269}


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("crane", {134, 517}),
        ("crane bird", {134}),
        ("maillot", {638, 639}),
        ("maillot, tank suit", {639}),
        ("missile", {657, 744}),
        ("tench, a fish", {0}),
        ("tench, goldfish", set()),
        ("dog", set()),
        ("n00000001", set()),
        ("1000", set()),
        ("-1", set()),
        ("", set()),
        (",", set()),
    ],
)
def test_identity_what_a_name_may_mean(name, places):
    assert imagenet.candidates(name) == places


def test_identity_classes_are_the_data_set_s_or_as_given(tmp_path):
    assert classes_of(None, DATASET) == DATASET
    assert classes_of(["dog", "cat", "frog"], DATASET) == ("dog", "cat", "frog")
    assert classes_of(IMAGENET, DATASET) == NAMES
    names = ("a cat", "dog, domestic", "Käfer\u2028x")
    for file, text in [
        ("names.txt", "\n".join(names)),
        ("names", "\r\n".join(names) + "\r\n\n"),
        ("marked.TXT", "\ufeff" + "\n".join(names)),
        ("names.JSON", json.dumps(names)),
    ]:
        (tmp_path / file).write_bytes(text.encode())
        assert classes_of(str(tmp_path / file), DATASET) == names


@pytest.mark.parametrize(
    ("file", "data", "expected"),
    [
        ("a.txt", b"", "no list of classes; .*got none"),
        ("a.txt", b"\n \n", "no list of classes; .*got none"),
        ("a.txt", b"cat\n\ndog\n", "a.txt, class 1: a class without a name"),
        ("a.txt", b"\xff\xfe", "no list of classes"),
        ("a.json", b"[]", "got none"),
        ("a.json", b'["cat", 3]', "class 1: a class without a name; expected a name; got 3"),
        ("a.json", b'{"0": "cat"}', "got dict"),
        ("a.json", b"cat\ndog", "a name a line, or a list in JSON"),
    ],
)
def test_refuses_a_file_that_lists_no_classes(file, data, expected, tmp_path):
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match=expected):
        classes_of(str(tmp_path / file), DATASET)


def test_refuses_no_file_and_no_class(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        classes_of(str(tmp_path / "imagenet"), DATASET)
    with pytest.raises(ConfigError, match="at least one"):
        classes_of([], DATASET)


@pytest.mark.parametrize(
    "names",
    [
        TEN,
        [NAMES[place] for place in PLACES],
        [NAMES[place].upper().replace(" ", "_") for place in PLACES],
        SYNONYMS,
        list(map(str, PLACES)),
    ],
    ids=["wnids", "names", "folders", "synonyms", "places"],
)
@pytest.mark.parametrize("classifier", [NAMES, WNIDS, list(map(str, range(1000)))], ids=["names", "wnids", "places"])
def test_agrees_ten_classes_in_front_of_a_thousand(names, classifier):
    assert logits_of(names, classifier, "net") == PLACES
    assert logits_of(names[::-1], classifier, "net") == PLACES[::-1]


def test_agrees_all_thousand_with_words_that_are_two_s():
    theirs = [", ".join(NAMES[place].split(" bird")) if place == 134 else name for place, name in enumerate(NAMES)]
    theirs = ["crane" if place == 134 else name for place, name in enumerate(theirs)]
    assert logits_of(theirs, NAMES, "net") == tuple(range(1000))
    assert logits_of(WNIDS[::-1], NAMES, "net") == tuple(range(1000))[::-1]


def test_identity_other_classes_are_found_as_written_or_by_their_words():
    mine = ["Airplane", "great_white shark", "C++", "C#", "🙂", "🙃"]
    assert logits_of(["great white shark", "airplane", "C#", "🙃"], mine, "net") == (1, 0, 3, 5)
    assert logits_of(mine, mine, "net") == (0, 1, 2, 3, 4, 5)
    assert logits_of(["Cat"], ["cat", "Cat"], "net") == (1,)
    assert logits_of(["x", "x"], ["x", "x"], "net") == (0, 1)
    assert logits_of([str(n) for n in range(990)], NAMES, "net") == tuple(range(990))


@pytest.mark.parametrize(
    ("dataset", "classifier", "expected"),
    [
        (["tench", "dog", "truck"], NAMES, "does not know all .* among its 1000.*; got dog, truck"),
        (["goldfinhc"], NAMES, "the nearest to goldfinhc: goldfinch; got goldfinhc"),
        ([f"class {n}" for n in range(12)], NAMES, "class 0, .*class 9 and 2 more"),
        (["cat", "dog"], ["cat", "cow"], "among its 2; .*got dog"),
        (["0", "1"], ["cat", "cow"], "got 0, 1"),
        ([str(n) for n in range(10)], NAMES, "may be its own instead of ImageNet's; .* got 0 to 9"),
        (["crane", "tench"], NAMES, r"several .* got crane \(n02012849 crane bird or n03126707 crane\)"),
        (["c"], ["C++", "C#"], r"several .* got c \(C\+\+ or C#\)"),
        (["x"], ["x", "y", "x"], r"several .* got x \(x or x\)"),
        (["tench", "Tinca tinca"], NAMES, ", n01440764 tench: several classes .* are one .*; got tench, Tinca tinca"),
        (["Cat", "cat"], ["cat", "cow"], ", cat: several classes .*; got Cat, cat"),
        (["a", "a"], ["a", "b", "c"], ", a: several .* got a, a"),
    ],
)
def test_refuses_what_does_not_map_for_certain(dataset, classifier, expected):
    with pytest.raises(ConfigError, match=f"^net.*{expected}"):
        logits_of(dataset, classifier, "net")


def test_agrees_with_the_class_folders_of_the_shared_images(shared_data):
    listed = json.loads((shared_data / "imagenet_class_index.json").read_text())
    assert [listed[str(place)][0] for place in range(1000)] == list(WNIDS)
    assert all(place in imagenet.candidates(listed[str(place)][1]) for place in range(1000))
    assert all(re.fullmatch("n[0-9]{8}", wnid) for wnid in WNIDS)
