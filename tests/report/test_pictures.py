import numpy as np

from stl_ray.report.pictures import (
    MAX_CLUSTERS,
    RIGHT,
    WRONG,
    cluster_atlas,
    filter_atlas,
    filter_mosaic,
    gallery,
    mosaic,
)


def test_identity_every_filter_stands_in_its_tile_about_mid_grey(bank):
    mosaic = filter_mosaic(bank)
    assert mosaic.shape == (2 * 9 + 1, 3 * 9 + 1, 3)
    for number, (top, left) in enumerate([(1, 1), (1, 10), (1, 19), (10, 1), (10, 10), (10, 19)]):
        tile = mosaic[top : top + 8, left : left + 8].transpose(2, 0, 1) - 0.5
        np.testing.assert_allclose(tile * 2 * np.abs(bank[number]).max(), bank[number], atol=1e-6)
    assert mosaic.min() >= 0 and mosaic.max() <= 1
    assert (mosaic[::9] == 1).all() and (mosaic[:, ::9] == 1).all()


def test_identity_a_zero_filter_is_grey_and_one_channel_is_shown_as_grey(bank):
    assert (filter_mosaic(np.zeros((1, 3, 4, 4)))[1:5, 1:5] == 0.5).all()
    mosaic = filter_mosaic(bank[:, :1])
    assert (mosaic[..., 0] == mosaic[..., 1]).all() and (mosaic[..., 0] == mosaic[..., 2]).all()


def test_invariant_the_atlas_is_bounded_and_names_its_clusters(bank):
    titles = [axes.get_title() for axes in filter_atlas(bank, np.stack([bank] * 2), (7, 9)).axes]
    assert titles == ["universal", "cluster 0 (7 images)", "cluster 1 (9 images)"]
    many = filter_atlas(bank, np.stack([bank] * 100), ()).axes
    assert sum(bool(axes.get_title()) for axes in many) == MAX_CLUSTERS + 1


def test_identity_every_clusters_images_stand_beside_its_filters(bank):
    samples = np.random.default_rng(0).integers(0, 256, (3, 4, 3, 16, 16), dtype=np.uint8)
    clusters = np.stack([bank, -bank, bank[::-1]])
    grid = np.array(cluster_atlas(clusters, samples, (7, 9, 8)).axes).reshape(4, 2)
    assert [left.get_title() for left in grid[:3, 0]] == [
        f"cluster {n} ({size} images)" for n, size in enumerate((7, 9, 8))
    ]
    for number, (left, right) in enumerate(grid[:3]):
        np.testing.assert_array_equal(left.images[0].get_array(), filter_mosaic(clusters[number]))
        np.testing.assert_array_equal(right.images[0].get_array(), mosaic(samples[number] / 255))
    assert not any(axes.images for axes in grid[3])
    many = cluster_atlas(np.stack([bank] * 30), samples[[0] * 30], ()).axes
    assert sum(bool(axes.images) for axes in many) == 2 * MAX_CLUSTERS


def test_identity_the_gallery_shows_each_image_and_prediction(bim_rows, natural_images):
    grid = np.array(gallery(bim_rows, ("astronaut", "coffee", "chelsea")).axes).reshape(5, 4)
    headings = [axes.texts[0].get_text() for axes in grid[:, 0]]
    assert headings == ["BIM-0.03", "JPEG", "STL", "STL (cluster)", "Clean"]
    for place, image in zip(grid[-1], natural_images[::6], strict=True):
        shown = np.asarray(place.images[0].get_array())
        np.testing.assert_array_equal(shown, (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    first = [(axes.texts[-1].get_text(), axes.texts[-1].get_color()) for axes in grid[:, 0]]
    wrong, right = ("✗ coffee", WRONG), ("✓ astronaut", RIGHT)
    assert first == [wrong, wrong, right, right, ("astronaut", "black")]


def test_invariant_an_image_that_a_defense_lacks_leaves_a_gap(bim_rows):
    grid = np.array(gallery(bim_rows[:-1], ()).axes).reshape(5, 4)
    assert [len(axes.images) for axes in grid[:, 3]] == [1, 1, 1, 0, 1]
    assert grid[-1, 0].texts[-1].get_text() == "0"


def test_invariant_many_images_go_on_in_further_strips(bim_rows):
    rows = [bim_rows[0].model_copy(update={"id": str(number), "label": number}) for number in range(10)]
    grid = np.array(gallery(rows, ()).axes).reshape(2 * 3, 8)
    assert [axes.texts[0].get_text() for axes in grid[:, 0]] == ["BIM-0.03", "JPEG", "Clean"] * 2
    assert [axes.texts[-1].get_text() for axes in grid[[2, 5]].flat if axes.images] == [str(n) for n in range(10)]
