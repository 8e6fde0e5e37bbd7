import pytest

from stl_ray.errors import InputError
from stl_ray.store import find_space, spaces_at


@pytest.fixture
def root_with(tmp_path):
    """Makes an experiment's root with spaces of these names."""

    def make(*names: str) -> str:
        for name in names:
            (tmp_path / "spaces" / name).mkdir(parents=True)
            (tmp_path / "spaces" / name / "space.json").write_text("{}")
        return str(tmp_path)

    return make


def test_identity_a_space_is_found_in_its_folder_and_below_an_experiments_root(root_with, tmp_path):
    root = root_with("natural")
    (tmp_path / "spaces" / "begun").mkdir()
    folder = f"{root}/spaces/natural"
    assert find_space(folder) == find_space(root) == find_space(tmp_path.as_uri()) == folder


def test_refuses_to_choose_among_several(root_with):
    root = root_with("b", "a")
    assert spaces_at(root) == [f"{root}/spaces/a", f"{root}/spaces/b"]
    with pytest.raises(InputError, match=f"several spaces here; name one; expected one of {root}/spaces/a, {root}/"):
        find_space(root)
    assert find_space(f"{root}/spaces/b") == f"{root}/spaces/b"


def test_refuses_a_folder_without_a_space_by_its_name(tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path}: no space here; expected a folder with space\.json"):
        find_space(str(tmp_path))
