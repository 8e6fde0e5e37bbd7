"""What was looked at where a row is far from the paper's; figures are on the page."""

READING: tuple[str, ...] = (
    "The vanilla setting: a classifier that was trained on clean images alone, without any retraining, sees what a defense makes "
    "of the first test images and of their attacked versions. Attacks are crafted on the classifier without the defense, every "
    "image at its own L2 dissimilarity in [0, 1] pixels, and stored in 8 bits; what DeepFool and C&W find is far below 0.03 and "
    "is enlarged to it. None of this is a claim of robustness.",
    "The networks and attacks are not the paper's: its VGG-16 keeps more than half of CIFAR-10 under FGSM-0.08, which no network "
    "here does under an FGSM of that size. So figures are not compared digit by digit. What can be compared is the order of the "
    "defenses, and the share of what the attack took that comes back: (accuracy - attacked) / (clean - attacked), the last two "
    "without defense.",
)

FINDINGS: dict[str, tuple[str, ...]] = {}
