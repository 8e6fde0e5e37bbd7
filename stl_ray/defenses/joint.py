"""A classifier and its detector as one victim: what an attacker who knows of the detector attacks.

The class of the joint logits is the label exactly where the image is refused or the classifier is right, which is where an
attack has failed: the label's logit z_y becomes max(z_y, r), where r lies beyond all logits if the score s is above 1, and
below the largest otherwise:

    r = max_i z_i + e (max_i z_i - min_i z_i),  e = s - 1 for s <= 1, else 1 - 1 / s

After Carlini and Wagner 2017 ("Adversarial examples are not easily detected", section 2.3), whose G has one more class for
refused images. Here r follows the scale of the logits, and e stays below 1: so a loss of a refused image has a gradient
where it had one if the label were beyond doubt, however large the score.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stl_ray.defenses.detector import Detector
from stl_ray.defenses.views import View


def joint_logits(logits: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """The joint logits (B, n), as above; differentiable.

    Args:
        logits: (B, n) of the classifier.
        scores: (B,) of the detector.
        labels: (B,) int64; or (1,), that of all images.
    """
    true = labels.clamp(max=logits.shape[1] - 1).expand(len(logits))[:, None]
    top, bottom, refused = logits.amax(1), logits.amin(1), scores > 1
    excess = torch.where(refused, 1 - 1 / scores.clamp_min(1), scores - 1)
    reference = top + excess.to(logits) * (top - bottom)
    # Rounded, a score next to 1 or logits that are alike must not decide otherwise.
    nearest = top.detach()
    above, below = (nearest.nextafter(torch.full_like(nearest, end)) for end in (torch.inf, -torch.inf))
    decided = torch.where(refused, reference.maximum(above), reference.minimum(below)).detach()
    reference = torch.where(decided == reference, reference, reference + (decided - reference).detach())
    return logits.scatter(1, true, logits.gather(1, true).maximum(reference[:, None]))


def joint_logits_and_vjp(
    view: View, images: Tensor, detector: Detector, labels: Tensor, cotangent: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Joint logits (B, n), and J^T cotangent(joint logits) (B, 3, H, W): by network, detector and transformation.

    Args:
        view: of the images behind the defense, as the network sees them.
        images: (B, 3, H, W), as they came in.
        detector: its part is the product of its own Jacobian, whatever the transformation's is.
        labels: as for `joint_logits`.
        cotangent: as for `Victim.logits_and_vjp`.
    """
    joint = for_scores = through_network = torch.empty(0)

    def of_scores(scores: Tensor) -> Tensor:
        nonlocal through_network

        def of_logits(logits: Tensor) -> Tensor:
            nonlocal joint, for_scores
            with torch.inference_mode(mode=False), torch.enable_grad():
                z, s = logits.clone().requires_grad_(), scores.clone().requires_grad_()
                output = joint_logits(z, s, labels)
            joint = output.detach()
            for_logits, for_scores = torch.autograd.grad(output, (z, s), cotangent(joint))
            return for_logits

        # Within the detector's pass, as both derivatives need both answers.
        _, through_network = view.network.logits_and_vjp(view.images, of_logits)
        return for_scores

    _, for_images, for_seen = detector.scores_and_vjp(images, view.images, of_scores)
    return joint, for_images + view.pulled(through_network + for_seen)
