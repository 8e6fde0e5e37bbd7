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

_CIFAR10 = (
    "What was looked at where a row gains little or costs much on clean images. The paper has MagNet, PixelDefend and STL alone "
    "at 32 pixels; the others' parameters were published for 224:",
    "\n".join(
        (
            "- stl, stl-cluster: under FGSM-0.08 the share that comes back is the paper's. Under the other attacks, which leave "
            "nearly nothing here and 0.1 to 0.2 there, it is less, and so is the accuracy on clean images. The two are as near "
            "to each other as in the paper.",
            "- tvm: at 32 pixels half of the values are too many to do without, and the published code adds to that: what it "
            "puts in place of a dropped value at the border is too dark (`border: reference`), and an eighth of such an image is "
            "border; and it stops after few iterations. Row tvm-renormalised is without the first, tvm-tighter without either "
            "and with a tenth of the weight. The published source was read for it: both are in it, so that the row is "
            "faithful, and low for that reason.",
            "- pd-ens: 200 deflections are 1 value in 15 of such an image, and 1 in 750 at 224 pixels. Row pd-ens-4 has the share "
            "of the latter: most of the loss on clean images goes, and with it the gain, which at 32 pixels is that of the "
            "deflections rather than of the denoising.",
            "- crops: 90/224 of 32 pixels are 13, enlarged to 32; a network that never saw such crops does not know them. Guo et "
            "al. trained theirs on crops.",
            "- quilting, tvm-quilting: the flat rows of the paper's Table 6a, where quilting costs the most on clean images and "
            "loses the least under attack.",
            "- d3-10k-5: level with stl, as in the paper's Table 3.",
            "- bit-depth, wavelet, resize-pad: nearly no gain under FGSM-0.08 and BIM: neither is there a paper's row for them.",
        )
    ),
)

FINDINGS: dict[str, tuple[str, ...]] = {
    "cifar10-resnet20": _CIFAR10,
    "bpda": (
        "The published attack is PGD through the defense by BPDA with the identity in its place, which is the column T3. STL keeps "
        "less here than in Table 4, and nothing under its exact gradient: the difference to 0.16 is of the attack (50 steps) and the "
        "network, not of a weaker projection. H14 is raised by the number of images alone.",
    ),
}
