"""The paper's accuracy tables, shown beside ours.

Source: B. Sun, N. Tsai, F. Liu, R. Yu, H. Su, "Adversarial Defense by Stratified Convolutional Sparse Coding",
CVPR 2019, arXiv:1812.00037, Tables 1 to 8. The "No defence" rows of Tables 5, 6a and 6b are those of Tables 1, 2a and 2b.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: its heading.
        attack: the method; None: clean images, or attacks of a tier.
        dissimilarity: its L2 budget.
        linf: its budget in levels of 255.
        mean: whether the budget is a mean over the images.
        tier: of the attacks that know of the defense.
    """

    label: str
    attack: str | None = None
    dissimilarity: float | None = None
    linf: float | None = None
    mean: bool = False
    tier: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: accuracies in [0, 1] by defense, in the order of its columns; None where the paper has none."""

    number: str
    dataset: str
    network: str
    setting: Literal["vanilla", "retrained"]
    size: int  # of the images, in pixels
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]

    @property
    def title(self) -> str:
        """What it is, in words."""
        network = f"vanilla {self.network}" if self.setting == "vanilla" else f"{self.network}, retrained"
        return f"The paper's Table {self.number}: {self.dataset} at {self.size} px, {network}"


NO_DEFENSE = "No defence"

SIZE = 32
"""Side of the images of CIFAR-10, in pixels."""

COLUMNS = (
    Column("Clean"),
    Column("FGSM-0.08", "fgsm", 0.08),
    Column("FGSM-0.04", "fgsm", 0.04),
    Column("BIM", "bim", 0.03),
    Column("DeepFool", "deepfool", 0.03),
    Column("CW", "cw", 0.03),
)

_AVERAGE = (
    Column("Clean"),
    *(
        Column(label, attack, 0.06, mean=True)
        for label, attack in (
            ("FGSM", "fgsm"),
            ("BIM", "bim"),
            ("DeepFool", "deepfool"),
            ("CW", "cw"),
            ("UAP", "uap"),
        )
    ),
)

_ADVERSARIAL = (
    Column("Clean"),
    *(Column(f"FGSM-{size:.2f}", "fgsm", size) for size in (0.04, 0.08, 0.12, 0.20)),
    Column("Uni-0.08", "uap", 0.08),
)

TABLES: tuple[PaperTable, ...] = (
    PaperTable(
        "1",
        "CIFAR-10",
        "VGG-16",
        "retrained",
        32,
        COLUMNS,
        (
            (NO_DEFENSE, (0.9298, 0.5816, 0.6523, 0.1803, 0.1760, 0.0936)),
            ("MagNet", (0.9206, 0.7393, 0.8552, 0.7707, 0.8770, 0.8594)),
            ("PixelDefend", (0.9041, 0.8316, 0.8799, 0.8515, 0.8827, 0.8845)),
            ("STL", (0.9002, 0.8515, 0.8732, 0.8754, 0.8838, 0.8880)),
            ("STL (cluster)", (0.9011, 0.8567, 0.8715, 0.8803, 0.8890, 0.8904)),
        ),
    ),
    PaperTable(
        "2a",
        "ImageNet-10",
        "VGG-16",
        "retrained",
        64,
        COLUMNS,
        (
            (NO_DEFENSE, (0.8665, 0.2816, 0.3080, 0.1883, 0.0811, 0.0751)),
            ("TVM", (0.7555, 0.5997, 0.6930, 0.7156, 0.7210, 0.7187)),
            ("Quilting", (0.7741, 0.7304, 0.7418, 0.7642, 0.7646, 0.7662)),
            ("Crop-Ens", (0.7508, 0.6968, 0.7221, 0.7369, 0.7401, 0.7304)),
            ("PD-Ens", (0.8250, 0.6634, 0.7607, 0.7903, 0.7955, 0.7813)),
            ("STL", (0.8438, 0.7275, 0.8002, 0.8164, 0.8163, 0.8058)),
            ("STL (cluster)", (0.8421, 0.7514, 0.8038, 0.8103, 0.8221, 0.8122)),
        ),
    ),
    PaperTable(
        "2b",
        "ImageNet-10",
        "VGG-16",
        "retrained",
        128,
        COLUMNS,
        (
            (NO_DEFENSE, (0.8991, 0.2123, 0.2409, 0.1790, 0.0584, 0.0504)),
            ("TVM", (0.8567, 0.7302, 0.8181, 0.8183, 0.8221, 0.8101)),
            ("Quilting", (0.8354, 0.7612, 0.7914, 0.8048, 0.8164, 0.8093)),
            ("Crop-Ens", (0.8382, 0.7640, 0.7969, 0.8033, 0.8071, 0.7955)),
            ("PD-Ens", (0.8603, 0.6740, 0.8011, 0.8273, 0.8320, 0.8262)),
            ("STL", (0.8784, 0.7202, 0.8308, 0.8320, 0.8560, 0.8449)),
            ("STL (cluster)", (0.8721, 0.7421, 0.8356, 0.8385, 0.8494, 0.8421)),
        ),
    ),
    PaperTable(
        "3",
        "ImageNet",
        "ResNet-50",
        "retrained",
        224,
        _AVERAGE,
        (
            (NO_DEFENSE, (0.761, 0.1870, 0.1020, 0.1033, 0.0785, 0.433)),
            ("quilt", (0.701, 0.655, 0.656, 0.652, 0.641, None)),
            ("TVM+quilt", (0.724, 0.657, 0.658, 0.658, 0.640, None)),
            ("Crop-Ens", (0.721, 0.667, 0.670, 0.671, 0.635, None)),
            ("D3 (40K-5)", (0.718, 0.686, None, 0.631, None, 0.715)),
            ("D3 (10K-5)", (0.708, 0.683, None, 0.646, None, 0.703)),
            ("D3 (10K-4)", (0.690, 0.671, None, 0.648, None, 0.689)),
            ("PD-Ens", (0.719, 0.637, 0.633, 0.638, 0.643, 0.667)),
            ("STL (cluster)", (0.721, 0.693, 0.678, 0.685, 0.677, 0.712)),
        ),
    ),
    PaperTable(
        "4",
        "CIFAR-10",
        "VGG-16",
        "vanilla",
        32,
        (Column("BPDA", linf=8.0, tier="T3"),),
        (
            ("SAP", (0.0,)),
            ("TE", (0.0,)),
            ("LID", (0.05,)),
            ("PixelDefend", (0.09,)),
            ("MagNet", (0.10,)),
            ("STL", (0.16,)),
            ("STL (cluster)", (0.19,)),
        ),
    ),
    PaperTable(
        "5",
        "CIFAR-10",
        "VGG-16",
        "vanilla",
        32,
        COLUMNS,
        (
            (NO_DEFENSE, (0.9298, 0.5816, 0.6523, 0.1803, 0.1760, 0.0936)),
            ("MagNet", (0.9035, 0.6145, 0.6521, 0.4312, 0.6535, 0.4845)),
            ("PixelDefend", (0.8526, 0.6810, 0.7329, 0.7729, 0.7414, 0.7579)),
            ("STL", (0.8285, 0.7099, 0.7487, 0.7462, 0.7854, 0.7765)),
            ("STL (cluster)", (0.8360, 0.7103, 0.7547, 0.7531, 0.7959, 0.7906)),
        ),
    ),
    PaperTable(
        "6a",
        "ImageNet-10",
        "VGG-16",
        "vanilla",
        64,
        COLUMNS,
        (
            (NO_DEFENSE, (0.8665, 0.2816, 0.3080, 0.1883, 0.0811, 0.0751)),
            ("TVM", (0.8172, 0.3403, 0.4744, 0.6595, 0.6943, 0.6823)),
            ("Quilting", (0.6318, 0.4541, 0.5312, 0.5696, 0.5436, 0.5563)),
            ("Crop-Ens", (0.5590, 0.4570, 0.5328, 0.5369, 0.5429, 0.5320)),
            ("PD-Ens", (0.7946, 0.3388, 0.5526, 0.6568, 0.6919, 0.6827)),
            ("STL", (0.7925, 0.5472, 0.6825, 0.7245, 0.7562, 0.7414)),
            ("STL (cluster)", (0.8017, 0.5729, 0.6914, 0.7234, 0.7652, 0.7521)),
        ),
    ),
    PaperTable(
        "6b",
        "ImageNet-10",
        "VGG-16",
        "vanilla",
        128,
        COLUMNS,
        (
            (NO_DEFENSE, (0.8991, 0.2123, 0.2409, 0.1790, 0.0584, 0.0504)),
            ("TVM", (0.8591, 0.2568, 0.4386, 0.6586, 0.6360, 0.6129)),
            ("Quilting", (0.8149, 0.3903, 0.5889, 0.6434, 0.6242, 0.5922)),
            ("Crop-Ens", (0.7730, 0.4622, 0.6447, 0.6876, 0.7060, 0.6888)),
            ("PD-Ens", (0.8789, 0.2333, 0.4286, 0.7221, 0.7359, 0.7272)),
            ("STL", (0.8654, 0.4552, 0.6418, 0.7332, 0.7308, 0.7212)),
            ("STL (cluster)", (0.8759, 0.4733, 0.6606, 0.7323, 0.7301, 0.7432)),
        ),
    ),
    PaperTable(
        "7",
        "ImageNet",
        "ResNet-50",
        "vanilla",
        224,
        COLUMNS,
        (
            (NO_DEFENSE, (0.7613, 0.1062, 0.1870, 0.1284, 0.1123, 0.0989)),
            ("TVM", (0.6205, 0.3123, 0.4256, 0.4923, 0.5232, 0.5012)),
            ("Quilting", (0.4168, 0.3787, 0.3865, 0.3823, 0.3859, 0.3783)),
            ("Crop-Ens", (0.6432, 0.4623, 0.5546, 0.5965, 0.6023, 0.5980)),
            ("PD-Ens", (0.6821, 0.3846, 0.5691, 0.6089, 0.6220, 0.6371)),
            ("STL", (0.6728, 0.5348, 0.6032, 0.6253, 0.6233, 0.6158)),
            ("STL (cluster)", (0.6921, 0.5588, 0.6053, 0.6348, 0.6468, 0.6220)),
        ),
    ),
    PaperTable(
        "8a",
        "CIFAR-10",
        "VGG-16",
        "retrained",
        32,
        _ADVERSARIAL,
        (
            (NO_DEFENSE, (0.9298, 0.6523, 0.5816, 0.3412, 0.2002, 0.6823)),
            ("Adv training", (0.9158, 0.9075, 0.8890, 0.8558, 0.7732, 0.8282)),
            ("STL (cluster)", (0.9011, 0.8715, 0.8567, 0.8258, 0.7632, 0.8642)),
        ),
    ),
    PaperTable(
        "8b",
        "ImageNet-10",
        "VGG-16",
        "retrained",
        64,
        _ADVERSARIAL,
        (
            (NO_DEFENSE, (0.8665, 0.3080, 0.2816, 0.2433, 0.1887, 0.3312)),
            ("Adv training", (0.8358, 0.8260, 0.7983, 0.7520, 0.6576, 0.672)),
            ("STL (cluster)", (0.8421, 0.8038, 0.7514, 0.7021, 0.6468, 0.7721)),
        ),
    ),
)
"""In the paper's order."""


def tables_at(size: int | None) -> tuple[PaperTable, ...]:
    """The tables of images of that size; of a size that is not known, those of CIFAR-10."""
    return tuple(table for table in TABLES if table.size == (size or SIZE))
