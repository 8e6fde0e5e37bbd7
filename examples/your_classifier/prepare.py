"""Make what a user would bring: photographs in class folders, weights of `mymodels`, a dictionary in the authors' format.

    python prepare.py [--side 64]

The photographs are windows of those that ship with scikit-image: 40 for testing, five of each class, from the right of each
picture; 320 from its left, for the weights and the dictionary.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from mymodels import CLASSES, WEIGHTS, Net
from PIL import Image
from skimage import data
from torch import Tensor, nn

from stl_ray.config import DictionaryConfig
from stl_ray.csc.learning import learn_dictionary

HERE = Path(__file__).parent
TEST, TRAIN = 5, 40  # images of a class
STEPS = 200


def windows(side: int) -> tuple[Tensor, Tensor]:
    """Train and test images, (N, 3, side, side) uint8, the classes in turn."""
    random = np.random.default_rng(0)
    splits: list[list[np.ndarray]] = [[], []]
    for number, count in enumerate((TRAIN, TEST)):
        for _ in range(count):
            for name in CLASSES:
                picture = np.asarray(getattr(data, name)())
                picture = picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1)
                height, width = picture.shape[:2]
                window = int(random.uniform(0.3, 0.45) * min(height, width))
                start, stop = ((0, width // 2), (width // 2, width))[number]
                top, left = random.integers(0, height - window), random.integers(start, stop - window + 1)
                cut = Image.fromarray(picture[top : top + window, left : left + window])
                splits[number].append(np.asarray(cut.resize((side, side), Image.Resampling.LANCZOS)))
    train, test = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) for images in splits)
    return train, test


def trained(images: Tensor, labels: Tensor) -> nn.Module:
    """The network after a few steps of Adam."""
    torch.manual_seed(0)
    network = Net()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (32,))
        noisy = (images[batch] + 0.02 * torch.randn_like(images[batch])).clamp(0, 1)
        loss = nn.functional.cross_entropy(network(noisy), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def write_dictionary(images: Tensor) -> Path:
    """Learn 16 filters of 8 x 8 pixels, and write them as the authors do: (S, S, C, K), BGR, K_pS_lmLAMBDA.npy."""
    config = DictionaryConfig(filters=16, size=8, lmbda=0.1, block=6, iterations=4)
    *_, last = learn_dictionary(images[:12], config, seed=0, name="example", holdout=images[12:16])
    filters = last.dictionary.filters.numpy()[:, ::-1].transpose(2, 3, 1, 0)
    file = HERE / "16_p8_lm0.1.npy"
    np.save(file, np.ascontiguousarray(filters))
    return file


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="pixels a side [64]")
    options = parser.parse_args()
    train, test = windows(options.side)
    for split, images in (("train", train), ("test", test)):
        for number, image in enumerate(images):
            file = HERE / "photographs" / split / CLASSES[number % len(CLASSES)] / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    labels = torch.arange(len(train)) % len(CLASSES)
    network = trained(train / 255, labels)
    torch.save(network.state_dict(), WEIGHTS)
    with torch.no_grad():
        right = (network(test / 255).argmax(1) == torch.arange(len(test)) % len(CLASSES)).sum()
    file = write_dictionary(train / 255)
    print(f"{len(test)} photographs, of which the network knows {right}; {WEIGHTS.name}; {file.name}")  # noqa: T201


if __name__ == "__main__":
    main()
