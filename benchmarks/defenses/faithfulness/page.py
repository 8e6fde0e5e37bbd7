def report(found): return repr({p: list(r) for p, r in found.items()})
