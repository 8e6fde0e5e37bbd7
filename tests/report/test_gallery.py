import pytest
from pydantic import ValidationError

from stl_ray.report.blocks import EMPTY
from stl_ray.report.gallery import gallery_blocks, in_words
from stl_ray.report.pictures import gallery
from stl_ray.report.records import GalleryRow


def test_agrees_the_table_says_what_the_figure_shows(bim_rows):
    table = in_words(bim_rows[:-1], ("astronaut", "", "Ba$$in"))
    assert table.columns == ("Image", "BIM-0.03", "JPEG", "STL", "STL (cluster)", "Clean")
    assert len(table.rows) == len({row.id for row in bim_rows})
    first, *_, last = table.rows
    assert [(cell.text, cell.note) for cell in first] == [
        ("test/00000", ""), ("✗ 1", ""), ("✗ 1", ""), ("✓ astronaut", "class 0"), ("✓ astronaut", "class 0"),
        ("astronaut", "class 0"),
    ]  # fmt: skip
    assert [cell.text for cell in last] == [
        "test/00003",
        "✗ astronaut",
        "✗ astronaut",
        "✓ Ba$$in",
        EMPTY.text,
        "Ba$$in",
    ]


def test_identity_a_refused_image_is_said_to_be_so(bim_rows):
    rows = [row.model_copy(update={"refused_after": True, "right_after": True}) for row in bim_rows]
    table = in_words(rows, ("astronaut", "coffee", "chelsea"))
    assert [cell.text for cell in table.rows[0]][2:5] == ["✓ refused"] * 3
    figure, _ = gallery_blocks(rows, ("astronaut", "coffee", "chelsea"))
    assert "Refused: by the defense's detector" in figure.caption
    assert "Refused" not in gallery_blocks(bim_rows, ("astronaut", "coffee", "chelsea"))[0].caption
    said = [text.get_text() for axes in gallery(rows, ("a", "b", "c")).axes for text in axes.texts]
    assert said.count("✓ refused") == len(rows)


def test_identity_images_saved_and_broken_have_figures_of_their_own(bim_rows):
    whys = ("spaced", "saved", "broken")
    rows = [row.model_copy(update={"why": why}) for why in whys for row in bim_rows]
    blocks = gallery_blocks(rows, ("astronaut", "coffee", "chelsea"))
    assert [block.name for block in blocks] == [
        f"{n}-bim-0.03" for n in ("gallery", "saved", "broken") for _ in range(2)
    ]
    assert [block.caption[:5] for block in blocks[::2]] == ["BIM-0", "Saved", "Broke"]


@pytest.mark.parametrize("attack", ["../up", "a/b", "", "a\nb", ".", "🦊"])
def test_refuses_an_attack_that_cannot_name_a_file(bim_rows, attack):
    with pytest.raises(ValidationError, match="not a name"):
        GalleryRow.model_validate(bim_rows[0].model_dump() | {"attack": attack})
