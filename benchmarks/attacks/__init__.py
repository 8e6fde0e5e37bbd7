"""How fast and how strong the attacks are, and what is left of STL against them.

python -m benchmarks.attacks                  seconds, beside Foolbox, torchattacks and ART: results/attacks.md
python -m benchmarks.attacks.parity           strength, beside the same: results/attacks-parity.md
python -m benchmarks.attacks.gpu              images per second and memory on a GPU: results/attacks-gpu.md
python -m benchmarks.attacks.white_box        exact gradients of STL, beside BPDA and grey-box: results/white-box.md
python -m benchmarks.attacks.white_box_cost   seconds of the exact gradient, beside BPDA: results/white-box-cost.md
python -m benchmarks.attacks.threat_tiers     no defense, JPEG and STL, tier by tier: results/threat-tiers.md
python -m benchmarks.attacks.own_classifier  JPEG and STL in front of an ImageNet network as it is: results/imagenet-mobilenet.md
"""
