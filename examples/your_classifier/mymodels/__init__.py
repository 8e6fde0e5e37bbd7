"""A user's own networks: nothing here knows stl-ray."""

from pathlib import Path

import torch
from torch import nn

CLASSES = ("brick", "chelsea", "coffee", "coins", "grass", "gravel", "retina", "rocket")

WEIGHTS = Path(__file__).with_name("weights.pt")


class Net(nn.Module):
    """Three convolutions and a linear layer: (B, 3, H, W) images in [0, 1] -> (B, 8) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(128, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.features((images - 0.5) / 0.25))


def make() -> nn.Module:
    """The network with the weights that lie beside this file."""
    network = Net()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return network.eval()
