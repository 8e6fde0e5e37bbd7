"""Our rows by name: a defense with its published parameters, and the paper's row that it stands beside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stl_ray.defenses import FittedOptions, options_of


@dataclass(frozen=True)
class Row:
    """A defense of the registry.

    Attributes:
        defense: its name there.
        options: those that are not its default.
        paper: name of the paper's row.
    """

    defense: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the rows that it is made of."""
        return options_of(self.defense, self.options).members

    @property
    def fitted(self) -> bool:
        """Whether it is fitted with an artifact."""
        return isinstance(options_of(self.defense, self.options), FittedOptions)

    @property
    def detects(self) -> bool:
        """Whether it refuses images, and so is calibrated on training images."""
        return options_of(self.defense, self.options).detects

    @property
    def on_space(self) -> bool:
        """Whether it projects onto a space."""
        return "space" in options_of(self.defense, self.options).requires


ROWS = {
    "jpeg": Row("jpeg"),
    "bit-depth": Row("bit_depth"),
    "median-filter": Row("median_filter"),
    "mean-filter": Row("mean_filter"),
    "gaussian-filter": Row("gaussian_filter"),
    "resize-pad": Row("resize_pad"),
    "wavelet": Row("wavelet"),
    "tvm": Row("tvm", paper="TVM"),
    "pd-ens": Row("pixel_deflection", paper="PD-Ens"),
    "stl": Row("stl", paper="STL"),
    "stl-cluster": Row("stl_cluster", paper="STL (cluster)"),
    # As published: the approximate search.
    "quilting": Row("quilting", {"search": "faiss"}, paper="Quilting"),
    "tvm-quilting": Row("ensemble", {"of": ["tvm", "quilting"]}),
    "crops": Row("crop_ensemble"),
    "d3-10k-5": Row("d3"),
    "crop-ens": Row("crop_ensemble", {"of": ["none", "tvm", "quilting"]}, paper="Crop-Ens"),
    # Published: 400 epochs. The paper compares the reformer alone.
    "magnet": Row("magnet", {"epochs": 120, "refuse": False}, paper="MagNet"),
    # Far smaller networks than the published ones, of a size that learns on a CPU.
    "pixel-defend": Row("pixel_defend", {"side": 16, "epochs": 3}, paper="PixelDefend"),
    "diffusion": Row("diffusion", {"width": 16, "levels": 150, "epochs": 6, "batch_size": 32, "learning_rate": 2e-3}),
    # What the published parameters cost at 32 px: variants that are no published ones.
    "tvm-renormalised": Row("tvm", {"border": "renormalised"}),
    "tvm-tighter": Row("tvm", {"border": "renormalised", "weight": 0.003, "tolerance": 1e-3}),
    "pd-ens-4": Row("pixel_deflection", {"deflections": 4}),
    # As Athalye et al. 2018 attacked it, which is what Table 4's figure is of.
    "sap": Row("sap", {"where": "convolution", "draws": 2.0, "passes": 1}, paper="SAP"),
    "lid": Row("lid", paper="LID"),
    "thermometer": Row("robust_classifier", {"classifier": "thermometer"}, paper="TE"),
}
"""In the order of the tables, cheap ones first."""
