"""The labels of settings, defenses, attack sets and dictionaries on the page, and lists of them."""

from collections.abc import Iterable, Sequence

from stl_ray.store.layout import CLEAN, RETRAINED

SETTINGS = {"vanilla": "Vanilla classifier", "retrained": "Retrained classifiers"}
UNDEFENDED = "none"
STL_DEFENSES = ("stl", "stl_cluster")  # names in the defense registry

_DEFENSES = {UNDEFENDED: "No defense", "jpeg": "JPEG", "tvm": "TVM", "stl": "STL", "stl_cluster": "STL (cluster)"}
_ATTACKS = ("fgsm", "bim")


def defense_label(name: str) -> str:
    """The row heading of a defense; a name of the user's own stays as it is."""
    return _DEFENSES.get(name, name)


def attack_label(name: str) -> str:
    """The column heading of an attack set: clean -> Clean, fgsm-0.08 -> FGSM-0.08."""
    if name == CLEAN:
        return "Clean"
    method, dash, rest = name.partition("-")
    return f"{method.upper()}{dash}{rest}" if method in _ATTACKS else name


def classifier_label(name: str) -> str:
    """The legend entry of a classifier: small_cnn, small_cnn-for-stl -> small_cnn for STL."""
    classifier, retrained, defense = name.partition(RETRAINED)
    return f"{classifier} for {defense_label(defense)}" if retrained else name


def dictionary_label(name: str) -> str:
    """The legend entry of a dictionary: cluster_0 -> cluster 0."""
    return name.replace("_", " ")


def class_label(index: int, class_names: tuple[str, ...]) -> str:
    """The name of a class, or its number where there is no name."""
    name = class_names[index] if 0 <= index < len(class_names) else ""
    return name if name.strip() else str(index)


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names in order of first appearance."""
    return tuple(dict.fromkeys(names))


def listed(items: Sequence[str]) -> str:
    """One or more items in words: a; a and b; a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
