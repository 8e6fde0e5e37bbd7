from stl_ray.attacks import Budget, make_attack
from stl_ray.attacks.problem import Problem


def test_invariant_runs_in_spare_slots_leave_no_record_of_images_that_are_beaten(victim, images, labels):
    ids = [str(row) for row in range(len(images))]
    problem = Problem.of(victim, images, labels, budget=Budget(kind="linf", size=8 / 255), ids=ids, seed=0)
    attack = make_attack("pgd", {"steps": 2, "relative_step": 1.0, "restarts": 3})
    _, queries = attack.craft(problem)
    held = queries == 3 * 3
    assert held.any()
    assert not held.all()
    assert not problem.record.asked[queries < 3 * 3].any()
    assert (problem.record.asked[held] >= 3 * 2).all()


def test_identity_logits_far_apart_leave_the_cross_entropy_without_a_gradient(victim, images, labels):
    class Confident:
        def logits(self, batch):
            return 2.0**20 * victim.logits(batch)

        def logits_and_vjp(self, batch, cotangent):
            scale = 2.0**20
            logits, product = victim.logits_and_vjp(batch, lambda logits: cotangent(scale * logits))
            return scale * logits, scale * product

    for name, flat in (
        ("fgsm", True),
        ("bim", True),
        ("pgd", True),
        ("apgd", True),
        ("apgd_dlr", False),
        ("fab", False),
    ):
        result = make_attack(name, {})(
            Confident(), images, labels, budget=Budget(size=0.01), ids=[str(row) for row in range(24)], seed=0
        )
        right = [status for status, success in zip(result.status, result.success.tolist(), strict=True) if not success]
        assert right
        assert set(right) == {"no_gradient"} if flat else "no_gradient" not in right
