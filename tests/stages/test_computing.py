import threading
import time
from concurrent.futures import ThreadPoolExecutor

from stl_ray.stages.computing import Hands


def test_invariant_who_must_be_alone_is_and_comes_before_the_others():
    hands, held, seen = Hands(), set(), []
    begun = threading.Barrier(3)

    def hold(name, alone, wait_for_others=False):
        with hands.shard(alone=alone):
            held.add(name)
            if wait_for_others:
                begun.wait(timeout=10)
            time.sleep(0.05)
            seen.append((name, frozenset(held)))
            held.remove(name)

    with ThreadPoolExecutor(6) as pool:
        first = [pool.submit(hold, name, False, True) for name in ("a", "b")]
        begun.wait(timeout=10)
        lonely = [pool.submit(hold, name, True) for name in ("x", "y")]
        while hands._lonely < 2:
            time.sleep(0.001)
        later = pool.submit(hold, "c", False)
        for future in (*first, *lonely, later):
            future.result(timeout=10)
    assert seen[0][1] == {"a", "b"}
    assert dict(seen[2:4]) == {"x": {"x"}, "y": {"y"}}
    assert seen[4] == ("c", {"c"})
