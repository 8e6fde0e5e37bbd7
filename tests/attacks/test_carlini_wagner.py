import torch

from stl_ray.attacks import Budget, make_attack


def test_identity_the_first_c_has_the_inverse_unit_of_the_logits(victim, images, labels):
    class Small:
        def logits(self, batch):
            return 2.0**-30 * victim.logits(batch)

        def logits_and_vjp(self, batch, cotangent):
            logits, product = victim.logits_and_vjp(batch, lambda logits: cotangent(2.0**-30 * logits))
            return 2.0**-30 * logits, 2.0**-30 * product

    results = [
        make_attack("cw", {"steps": 20, "binary_search_steps": 4, "initial_c": 0.1 / scale})(
            seen, images[:4], labels[:4], budget=Budget(size=0.3), ids=list("abcd"), seed=0, store="f32"
        )
        for seen, scale in ((victim, 1), (Small(), 2.0**-30))
    ]
    assert results[0].success.any()
    assert torch.equal(results[0].images, results[1].images)
