"""The exception tree and the quarantine reasons. Every room may raise from it.

An error names the item it is about, what was expected and what came, as attributes and in its message.
"""

from enum import StrEnum

from stl_ray.text import plain


class QuarantineReason(StrEnum):
    """Why one image was set aside while the rest went on."""

    MISSING_IMAGE = "missing_image"  # the record or the file has no bytes
    UNREADABLE = "unreadable"  # corrupt, truncated or not an image
    TOO_SMALL = "too_small"  # smaller than the smallest size that any stage can use
    TOO_LARGE = "too_large"  # more pixels than the decompression limit
    LABEL_OUT_OF_RANGE = "label_out_of_range"  # neither -1 nor an index of a class
    DUPLICATE_ID = "duplicate_id"  # a second row with an id that the dataset already has
    SOLVER_DIVERGED = "solver_diverged"  # the projection did not stay finite
    NOT_AN_IMAGE = "not_an_image"  # what a user's own defense made of it is not finite, or not in [0, 1]
    LATENT_NOT_FINITE = "latent_not_finite"  # the autoencoder gave NaN or infinity for it
    KILLS_WORKER = "kills_worker"  # the process that works on it dies, again and again, and on others it does not


class StlRayError(Exception):
    """Base of everything that stl_ray raises on purpose; its text has no control characters but the line breaks of `message`.

    Args:
        message: what went wrong, in one sentence.
        item: the file, key, image id or shard that it is about.
        expected: what would have been right.
        got: what came instead.
    """

    def __init__(self, message: str, *, item: object = None, expected: object = None, got: object = None) -> None:
        self.message = message
        self.item = item
        self.expected = expected
        self.got = got
        sentence = "\n".join(map(plain, message.split("\n")))
        parts = [sentence if item is None else f"{plain(str(item))}: {sentence}"]
        if expected is not None:
            parts.append(f"expected {plain(str(expected))}")
        if got is not None:
            parts.append(f"got {plain(str(got))}")
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Cross process boundaries (Ray pickles exceptions) with the attributes kept."""
        return _rebuild, (type(self), self.message, self.item, self.expected, self.got)


def _rebuild(kind: type[StlRayError], message: str, item: object, expected: object, got: object) -> StlRayError:
    return kind(message, item=item, expected=expected, got=got)


class ConfigError(StlRayError):
    """A configuration key is unknown, of the wrong type, or part of an impossible combination."""


class InputError(StlRayError):
    """A place, dataset or file that the user named cannot be used at all, such as a URI with credentials in it."""


class ImageError(StlRayError):
    """One image cannot be used; it is quarantined with `reason` and the others go on."""

    def __init__(
        self,
        message: str,
        *,
        reason: QuarantineReason = QuarantineReason.UNREADABLE,
        item: object = None,
        expected: object = None,
        got: object = None,
    ) -> None:
        super().__init__(message, item=item, expected=expected, got=got)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        """As for the base, with the reason."""
        return _rebuild_image_error, (self.message, self.reason, self.item, self.expected, self.got)


def _rebuild_image_error(
    message: str, reason: QuarantineReason, item: object, expected: object, got: object
) -> ImageError:
    return ImageError(message, reason=reason, item=item, expected=expected, got=got)


class TensorError(StlRayError):
    """A tensor has the wrong shape, type or range for the function that it was given to."""


class GradientError(StlRayError):
    """A gradient was asked of what has none, or none of that kind."""


class DictionaryError(StlRayError):
    """A convolutional dictionary breaks its norm convention or has the wrong shape."""


class ArtifactError(StlRayError):
    """A stored artifact (space, classifier, dictionary) is unreadable, altered, or of another version."""


class StorageError(StlRayError):
    """The storage refused a read or a write (missing, full, read-only, unsupported)."""


class RunIdentityError(StlRayError):
    """A run directory was made under another identity; the two are never mixed."""


class RunBusyError(StlRayError):
    """Another driver is at work on the same run."""


class ComparisonError(StlRayError):
    """Two experiments have nothing in common that could be compared."""


class IncompleteRunError(StlRayError):
    """A dataset was asked for whose run has not finished, or a run ended with shards missing."""


class AuditError(StlRayError):
    """A dataset's bytes do not agree with its manifest."""


class QuarantineLimitError(StlRayError):
    """More images were quarantined than `max_quarantined` allows."""


class TrainingError(StlRayError):
    """Training cannot start or cannot go on (classes that do not fit, a loss that is not finite)."""


class ClusterError(StlRayError):
    """A cluster cannot be reached, refuses, or a job that it was given did not succeed."""
