"""Measurements of speed, strength and worth, beside the libraries and papers that others would use.

    common/       images, pages, progress, memory: what several of the folders below share
    projection/   T(x) beside SPORCO, on a CPU and on a GPU
    learning/     dictionary learning beside SPORCO, and our dictionaries beside the authors' published ones
    strata/       what routing and strata are worth, and how fast routing is
    resolutions/  a space at other resolutions than its own
    attacks/      every attack beside Foolbox, torchattacks and ART; STL against attackers who know it
    defenses/     defenses beside their original formulations
    training/     classifier training, and the loader that feeds it
    runner/       the shard runner beside a bare loop and Ray Data
    scale/        the run protocol at the size of ImageNet
    results/      the pages

A folder opens with its commands; every command has `--help`. Folders know common/ and nothing of each other.
"""
