"""PixelDefend on one core: decoding with what was computed of earlier pixels kept, beside the whole network for every pixel.

python -m benchmarks.defenses.pixel_defend
"""

import argparse
import statistics
import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.common.images import default_data, load_images
from stl_ray.defenses.greedy_decoding import decoded
from stl_ray.defenses.logistic_mixture import Mixtures, bounds_of, scaled
from stl_ray.defenses.pixel_cnn import PixelCnn
from stl_ray.defenses.pixel_defend import TILE, PixelDefendOptions
from stl_ray.models import seeded


def main() -> None:
    """Time both in turns, the second on some rows of the image, each of which takes as long."""
    defaults = PixelDefendOptions()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defenses.pixel_defend", description=__doc__)
    parser.add_argument("--width", type=int, default=defaults.width)
    parser.add_argument("--layers", type=int, default=defaults.layers)
    parser.add_argument("--mixtures", type=int, default=defaults.mixtures)
    parser.add_argument("--eps", type=int, default=defaults.eps_defend)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32], metavar="PIXELS")
    parser.add_argument("--rows", type=int, default=1, help="of an image, for the whole network (1)")
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    build = partial(PixelCnn, options.width, options.layers, options.mixtures)
    network = seeded(build, 0).requires_grad_(False)
    print("| size | CPU ms an image | of one image alone | by the whole network | times as fast | same levels |")
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        levels = (load_images(size, TILE, default_data()).pixels * 255).round()
        turns = [_turn(network, levels, options.eps, options.rows) for _ in range(options.turns)]
        kept, alone, whole = map(statistics.median, zip(*turns, strict=True))
        same = torch.equal(
            decoded(network, levels, options.eps)[:, :, : options.rows],
            uncached(network, levels, options.eps, options.rows)[:, :, : options.rows],
        )
        print(f"| {size} | {kept:.0f} | {alone:.0f} | {whole:.0f} | {whole / kept:.0f} | {'yes' if same else 'no'} |")


def uncached(network: PixelCnn, levels: Tensor, reach: int, rows: int) -> Tensor:
    """Levels (B, 3, H, W) with those rows decoded, by the whole network for every pixel."""
    chosen, steps = levels.clone(), torch.arange(-reach, reach + 1)
    for row in range(rows):
        for column in range(levels.shape[3]):
            mixtures = Mixtures.of(network(chosen)[:, row, column])
            values: list[Tensor] = []
            for channel in range(3):
                candidates = (levels[:, channel, row, column, None] + steps).clamp(0, 255)
                likely = mixtures.log_probabilities(bounds_of(candidates), channel, values)
                level = candidates.gather(1, likely.argmax(1, keepdim=True))[:, 0]
                chosen[:, channel, row, column] = level
                values.append(scaled(level))
    return chosen


def _turn(network: PixelCnn, levels: Tensor, reach: int, rows: int) -> tuple[float, float, float]:
    """Milliseconds of an image: in a full tile, alone, and in a full tile by the whole network."""
    start = time.process_time()  # of the processor, so that it does not count what else runs on the core
    decoded(network, levels, reach)
    kept = time.process_time()
    decoded(network, levels[:1].expand(TILE, -1, -1, -1).contiguous(), reach)
    alone = time.process_time()
    uncached(network, levels, reach, rows)
    whole = time.process_time() - alone
    milliseconds = 1e3 / len(levels)
    return (kept - start) * milliseconds, (alone - kept) * 1e3, whole * milliseconds * levels.shape[2] / rows


if __name__ == "__main__":
    main()
