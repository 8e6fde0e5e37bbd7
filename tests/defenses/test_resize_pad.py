import torch
from torch.nn.functional import interpolate

from stl_ray.defenses import make_defense
from stl_ray.images import quantize


def framed(images, **options):
    return make_defense("resize_pad", options, {}).purify(images, seeds=range(len(images))).images


def box(image, fill):
    """(top, left, rows, columns) of what is not padding."""
    inside = (image != fill).any(0)
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def test_identity_every_size_and_place_of_the_frame_is_drawn():
    """299/331 of 32 pixels is 29, and the largest side is a pixel below the frame's, as 330 of 331."""
    white = torch.ones(400, 3, 32, 32)
    boxes = [box(image, 0.5) for image in framed(white)]
    assert {rows for _, _, rows, _ in boxes} == {29, 30, 31}
    assert all(rows == columns for _, _, rows, columns in boxes)
    for side in (29, 30, 31):
        places = {(top, left) for top, left, rows, _ in boxes if rows == side}
        assert places == {(top, left) for top in range(33 - side) for left in range(33 - side)}


def test_agrees_with_torch_s_resizing_at_the_place(natural_images):
    images = quantize(natural_images[:4, :, :20])
    for image, found in zip(images, framed(images, fill=0.123), strict=True):
        top, left, rows, columns = box(found, torch.tensor(0.123))
        small = interpolate(image[None], (rows, columns), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(found[:, top : top + rows, left : left + columns], small, rtol=0, atol=1e-6)
        assert columns == round(32 * rows / 20)


def test_identity_of_the_paper_s_scale_at_its_size():
    boxes = [box(image, 0.5) for image in framed(torch.ones(24, 3, 331, 331))]
    assert all(299 <= rows <= 330 for _, _, rows, _ in boxes)


def test_certificate_a_smallest_side_near_the_frame_s_leaves_one_size():
    assert {box(image, 0.5)[2] for image in framed(torch.ones(9, 3, 16, 16), smallest=0.999)} == {15}
