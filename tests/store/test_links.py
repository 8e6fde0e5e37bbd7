"""Symbolic links below a root on a disk: every real folder is walked once, so that no cycle of links goes on for ever."""

import pytest

from stl_ray.store import Storage, runs_below
from stl_ray.store.sweep import sweep


@pytest.fixture
def tree(tmp_path):
    """A root with a class of two files, beside a folder that is not below the root."""
    for name in ("root/cat/1", "root/cat/deep/2", "root/dog/3", "outside/x/4", "outside/5"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path


FILES = ["cat/1", "cat/deep/2", "dog/3"]


def found(tree, folder="", root="root"):
    """The files that a walk meets, and what it does not follow."""
    entries = list(Storage.open(str(tree / root)).walk(folder))
    assert all(entry.size < 0 for entry in entries if entry.leads_to is not None)
    files = [entry.path for entry in entries if entry.size >= 0]
    assert files == sorted(files)
    return files, {entry.path: entry.leads_to for entry in entries if entry.size < 0}


@pytest.mark.parametrize(
    ("link", "target", "real"),
    [
        ("dog/up", "..", "root"),
        ("dog/itself", ".", "root/dog"),
        ("cat/deep/up", "../..", "root"),
        ("cat/deep/class", "..", "root/cat"),
        ("all", ".", "root"),
        ("dog/other", "../cat", "root/cat"),
        ("dog/part", "../cat/deep", "root/cat/deep"),
        ("kitty", "cat", "root/cat"),
        ("dog/far", "../..", ""),
        ("dog/top", "/", "/"),
    ],
)
def test_invariant_a_link_into_the_tree_or_above_it_is_not_followed(tree, link, target, real):
    (tree / "root" / link).symlink_to(target)
    assert found(tree) == (FILES, {link: str(tree / real)})
    folders, files = Storage.open(str(tree / "root")).entries()
    assert folders == ["cat", "dog"]
    assert [file.path for file in files] == ([link] if "/" not in link else [])


@pytest.mark.parametrize(
    ("links", "real"),
    [
        ({"cat/a": "../dog", "dog/b": "../cat"}, {"cat/a": "root/dog", "dog/b": "root/cat"}),  # to each other
        ({"dog/out": "../../outside", "../outside/back": "../root"}, {"dog/out/back": "root"}),
        ({"dog/out": "../../outside", "../outside/x/up": ".."}, {"dog/out/x/up": "outside"}),
        ({"dog/out": "../../outside/x", "../outside/x/up": ".."}, {"dog/out/up": "outside"}),
        ({"dog/out": "../../outside/x", "../outside/x/up": "../.."}, {"dog/out/up": ""}),
        ({"dog/a": "../../outside", "dog/b": "../../outside"}, {"dog/b": "outside"}),
        ({"dog/a": "../../outside/x", "dog/b": "../../outside"}, {"dog/b/x": "outside/x"}),
        ({"cat/a": "../../outside/x", "dog/b": "../../outside"}, {"dog/b/x": "outside/x"}),
    ],
)
def test_invariant_cycles_and_doubles_outside_the_tree_end(tree, links, real):
    for link, target in links.items():
        (tree / "root" / link).symlink_to(target)
    files, not_followed = found(tree)
    assert not_followed == {path: str(tree / folder) for path, folder in real.items()}
    assert len(files) == len({(tree / "root" / file).resolve() for file in files})
    assert set(FILES) <= set(files)


@pytest.mark.parametrize(
    ("links", "folders", "real"),
    [
        ({"bird": "../outside", "cow": "../outside"}, ["bird", "cat", "dog"], {"cow": "outside"}),
        ({"zoo": "../outside", "dog/more": "../../outside/x"}, ["cat", "dog", "zoo"], {"dog/more": "outside/x"}),
        ({"zoo": "../outside", "dog/more": "../../outside"}, ["cat", "dog", "zoo"], {"dog/more": "outside"}),
        ({"up": "..", "dog/more": "../../outside"}, ["cat", "dog"], {"up": ""}),
        ({"zoo": "../outside", "../outside/in": "x"}, ["cat", "dog", "zoo"], {"zoo/in": "outside/x"}),
        (
            {"x": "../outside/x", "y": "../outside/y", "../outside/x/up": "../y"},
            ["cat", "dog", "x", "y"],
            {"x/up": "outside/y"},
        ),
    ],
)
def test_invariant_a_folder_that_the_root_links_to_has_its_path_there(tree, links, folders, real):
    (tree / "outside" / "y").mkdir()
    (tree / "outside" / "y" / "6").write_text("6")
    for link, target in links.items():
        (tree / "root" / link).symlink_to(target)
    files, not_followed = found(tree)
    assert not_followed == {path: str(tree / folder) for path, folder in real.items()}
    assert Storage.open(str(tree / "root")).entries()[0] == folders
    # Asked for one by one, the folders have the same files.
    assert sorted(files) == sorted(file for folder in folders for file in found(tree, folder)[0])


def test_identity_links_to_folders_elsewhere_and_to_files_are_followed(tree):
    (tree / "root" / "bird").symlink_to(tree / "outside")
    (tree / "far").mkdir()
    (tree / "far" / "4").write_text("4")
    (tree / "root" / "cat" / "more").symlink_to(tree / "far")
    (tree / "root" / "dog" / "6").symlink_to(tree / "root" / "cat" / "1")
    assert found(tree, "bird") == (["bird/5", "bird/x/4"], {})
    assert found(tree, "cat") == (["cat/1", "cat/deep/2", "cat/more/4"], {})
    assert found(tree, "dog") == (["dog/3", "dog/6"], {})
    assert Storage.open(str(tree / "root")).entries()[0] == ["bird", "cat", "dog"]


def test_invariant_the_root_may_be_a_link_and_a_class_lead_back_to_it(tree):
    (tree / "link").symlink_to("root")
    (tree / "outside" / "back").symlink_to(tree / "link")
    (tree / "root" / "bird").symlink_to(tree / "outside")
    back = {"bird/back": str(tree / "root")}
    assert found(tree, "bird", root="link") == (["bird/5", "bird/x/4"], back)
    assert found(tree, root="link")[1] == back


def test_refuses_single_links_that_lead_nowhere(tree):
    links = {"gone": "nowhere", "a": "b", "b": "a", "itself": "itself", "cat/gone": "../nowhere", "dog/a": "a"}
    for link, target in links.items():
        (tree / "root" / link).symlink_to(target)
    assert found(tree) == (FILES, dict.fromkeys(links))
    storage = Storage.open(str(tree / "root"))
    folders, files = storage.entries()
    assert folders == ["cat", "dog"]
    assert [(file.path, file.size) for file in files] == [(name, -1) for name in ("a", "b", "gone", "itself")]
    assert not any(storage.exists(link) for link in links)


def test_invariant_verify_and_sweep_see_a_run_once(tree):
    run = tree / "root" / "cat"
    (run / "run.json").write_text("{}")
    (run / "parts").mkdir()
    (run / "parts" / ".tmp-1").write_text("unfinished")
    (run / "up").symlink_to("..")
    (tree / "root" / "again").symlink_to(".")
    storage = Storage.open(str(tree / "root"))
    assert runs_below(storage) == ["cat"]
    assert set(sweep(storage, "cat", delete=True).files) == {"parts/.tmp-1"}
    assert storage.names("cat/parts") == []
