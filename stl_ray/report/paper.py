"""The paper's accuracy tables on CIFAR-10, shown beside ours.

Source: B. Sun, N. Tsai, F. Liu, R. Yu, H. Su, "Adversarial Defense by Stratified Convolutional Sparse Coding",
CVPR 2019, arXiv:1812.00037, Tables 1 and 5. The "No defence" row of Table 5 is that of Table 1.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperTable:
    """Accuracies in [0, 1] by defense, in the order of COLUMNS."""

    title: str
    rows: tuple[tuple[str, tuple[float, ...]], ...]


SIZE = 32
"""Side of the images of TABLES, in pixels."""

COLUMNS = ("Clean", "FGSM-0.08", "FGSM-0.04", "BIM", "DeepFool", "CW")

_NO_DEFENCE = ("No defence", (0.9298, 0.5816, 0.6523, 0.1803, 0.1760, 0.0936))

TABLES = {
    "retrained": PaperTable(
        "The paper's Table 1: CIFAR-10 at 32 px, VGG-16, retrained",
        (
            _NO_DEFENCE,
            ("MagNet", (0.9206, 0.7393, 0.8552, 0.7707, 0.8770, 0.8594)),
            ("PixelDefend", (0.9041, 0.8316, 0.8799, 0.8515, 0.8827, 0.8845)),
            ("STL", (0.9002, 0.8515, 0.8732, 0.8754, 0.8838, 0.8880)),
            ("STL (cluster)", (0.9011, 0.8567, 0.8715, 0.8803, 0.8890, 0.8904)),
        ),
    ),
    "vanilla": PaperTable(
        "The paper's Table 5: CIFAR-10 at 32 px, vanilla VGG-16",
        (
            _NO_DEFENCE,
            ("MagNet", (0.9035, 0.6145, 0.6521, 0.4312, 0.6535, 0.4845)),
            ("PixelDefend", (0.8526, 0.6810, 0.7329, 0.7729, 0.7414, 0.7579)),
            ("STL", (0.8285, 0.7099, 0.7487, 0.7462, 0.7854, 0.7765)),
            ("STL (cluster)", (0.8360, 0.7103, 0.7547, 0.7531, 0.7959, 0.7906)),
        ),
    ),
}
