"""The paper's figures in the vanilla setting: accuracies in [0, 1].

Source: B. Sun, N. Tsai, F. Liu, R. Yu, H. Su, "Adversarial Defense by Stratified Convolutional Sparse Coding",
CVPR 2019, arXiv:1812.00037. The columns of Tables 5 to 7 are `COLUMNS`; Table 4 has one, accuracy under BPDA at an
L_inf distance of 0.031.
"""

from stl_ray.report.paper import COLUMNS as COLUMNS
from stl_ray.report.paper import TABLES as _CIFAR10
from stl_ray.report.paper import PaperTable

NO_DEFENSE = "No defence"

TABLES = {
    "5": _CIFAR10["vanilla"],
    "6a": PaperTable(
        "The paper's Table 6a: ImageNet-10 at 64 px, vanilla VGG-16",
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
    "6b": PaperTable(
        "The paper's Table 6b: ImageNet-10 at 128 px, vanilla VGG-16",
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
    "7": PaperTable(
        "The paper's Table 7: ImageNet at 224 px, vanilla ResNet-50",
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
}

BPDA = {
    "SAP": 0.00,
    "TE": 0.00,
    "LID": 0.05,
    "PixelDefend": 0.09,
    "MagNet": 0.10,
    "STL": 0.16,
    "STL (cluster)": 0.19,
}
"""Table 4: CIFAR-10, VGG-16."""
