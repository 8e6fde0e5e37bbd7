"""Training a classifier by stochastic gradient descent on augmented, perhaps attacked, images.

Every random number comes from (seed, epoch, image or step), so training that stops after a step and goes on from its
state gives the same bits, on one worker, as training that was never stopped. With more workers the batches are the same
and each worker takes its part of every one; gradients are means over the whole batch, the statistics of batch norm are
each worker's own, and those of rank 0 are kept.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stl_ray.config.training import TrainConfig
from stl_ray.defenses import Differentiable
from stl_ray.errors import TrainingError
from stl_ray.models import Classifier
from stl_ray.seeding import seed_of
from stl_ray.training.classifier.checkpoint import capture, named, restore, unnamed
from stl_ray.training.classifier.metrics import Callbacks, EpochMetrics, EpochProgress
from stl_ray.training.classifier.nan_guard import FiniteLosses, require_finite_weights
from stl_ray.training.classifier.recipe import average_of, learning_rate, sgd
from stl_ray.training.classifier.step_inputs import seeded, step_inputs
from stl_ray.training.classifier.validation import validate
from stl_ray.training.data.batches import batch_count
from stl_ray.training.data.labels import validate_labels
from stl_ray.training.data.loader import Batch, Share, training_batches
from stl_ray.training.data.source import TrainingImages

LOOK_EVERY = 32
"""Steps between checks, on all ranks, of the losses and of whether a node is about to be taken away."""

_AVERAGE = "average."


def train_classifier(
    model: Classifier | DistributedDataParallel,
    images: TrainingImages,
    config: TrainConfig,
    *,
    seed: int,
    validation: TrainingImages | None = None,
    input_transform: Differentiable | None = None,
    share: Share = Share(),  # noqa: B008 - immutable
    state: Mapping[str, Tensor] | None = None,
    callbacks: Callbacks = Callbacks(),  # noqa: B008 - immutable
) -> Iterator[EpochMetrics]:
    """Train `model` in place; yields after every epoch, with the model in eval mode.

    Args:
        model: a `Classifier` on the device where it trains; in `DistributedDataParallel` if there are more workers.
        images: all of the training images, whatever the rank.
        config: the recipe.
        seed: the run seed.
        validation: all of the images to validate on; None: no validation.
        input_transform: the defense that images pass on their way to the classifier (`Defense.differentiable`); it is not trained.
        share: the rank of this worker.
        state: of `EpochMetrics.state` or `Callbacks.save`, from which training resumes.
        callbacks: called within an epoch.

    Raises:
        TrainingError: the labels do not fit the classes, a batch has fewer images than there are workers, the state
            is another model's, or a loss or a weight is not finite.
    """
    training = _Training(model, images, config, seed, validation, input_transform, share, callbacks)
    yield from training.run(state)


class _Training:
    """One worker's training."""

    def __init__(
        self,
        model: Classifier | DistributedDataParallel,
        images: TrainingImages,
        config: TrainConfig,
        seed: int,
        validation: TrainingImages | None,
        input_transform: Differentiable | None,
        share: Share,
        callbacks: Callbacks,
    ) -> None:
        self.classifier = model.module if isinstance(model, DistributedDataParallel) else model
        self.labels = images.labels
        validate_labels(self.labels, images.ids, self.classifier.class_names)
        if validation is not None:
            validate_labels(validation.labels, validation.ids, self.classifier.class_names)
        self.count = len(self.labels)
        self.steps = batch_count(self.count, config.batch_size)
        if self.count // self.steps < share.world_size:
            raise TrainingError(
                "a worker would get no image of a batch", expected=f"{share.world_size} images", got=self.count
            )
        self.model, self.images, self.config, self.seed = model, images, config, seed
        self.validation, self.input_transform, self.share, self.callbacks = (
            validation,
            input_transform,
            share,
            callbacks,
        )
        self.device = self.classifier.mean.device
        if config.channels_last:
            self.classifier.to(memory_format=torch.channels_last)
        self.optimizer = sgd(self.classifier, config)
        self.average = average_of(self.classifier.backbone, config.ema)
        self.forward = torch.compile(model) if config.compile else model
        self.finite = FiniteLosses(images.ids, share.world_size)
        self.totals = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss and right answers
        self.seconds, self.waited = 0.0, 0.0
        self.saved = False

    def run(self, state: Mapping[str, Tensor] | None) -> Iterator[EpochMetrics]:
        """The remaining epochs."""
        epoch, step = (0, 0) if state is None else self._restore(state)
        batches = training_batches(
            self.images, self.config, self.share, seed=self.seed, start=(epoch, step), pinned=self.device.type == "cuda"
        )
        while epoch < self.config.epochs:
            self.model.train()
            rate = self._epoch(epoch, step, batches)
            self.model.eval()
            yield self._metrics(epoch, rate)
            self.totals.zero_()
            self.seconds, self.waited = 0.0, 0.0
            epoch, step = epoch + 1, 0

    def _epoch(self, epoch: int, first: int, batches: Iterator[Batch]) -> float:
        started, before = time.perf_counter(), self.seconds
        rate = 0.0
        for step in range(first, self.steps):
            asked = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - asked
            rate = learning_rate(epoch * self.steps + step, self.config.epochs * self.steps, self.config)
            losses, right = self._step(batch, rate)
            self.finite.keep(step, losses, batch.indices, batch.size)
            self.totals += torch.stack([losses.sum(), right.sum()]).to(torch.float64)
            self.seconds = before + time.perf_counter() - started
            if (step + 1) % LOOK_EVERY == 0 or step + 1 == self.steps:
                self.finite.require(epoch + 1)
                self._tell(epoch, step, losses, right)
        return rate

    def _step(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """One step of descent: loss of every image of this rank, and whether it was classified rightly."""
        config = self.config
        step_name = f"{batch.epoch}/{batch.step}/{self.share.rank}"
        inputs = step_inputs(
            batch,
            self.images,
            self.labels[batch.indices],
            self.classifier,
            self.input_transform,
            config,
            seed=self.seed,
            item=step_name,
        )
        images, targets = inputs.images, inputs.targets
        if config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with seeded(seed_of(self.seed, step_name, "random layers"), self.device), self._autocast():
            logits = self.forward(images)
        logits = logits.float()
        losses = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing, reduction="none")
        weighted = losses if inputs.weights is None else losses * inputs.weights
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        # DistributedDataParallel averages over ranks; with this factor that is the mean over the whole batch.
        torch.autograd.backward(weighted.sum() * (self.share.world_size / batch.size))
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.classifier.parameters(), config.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.classifier.backbone)
        most = targets if targets.dim() == 1 else targets.argmax(dim=1)
        return losses.detach(), logits.detach().argmax(dim=1) == most

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _tell(self, epoch: int, step: int, losses: Tensor, right: Tensor) -> None:
        done = round(self.count * (step + 1) / self.steps)
        wait = self.waited / max(self.seconds, 1e-9)
        self.callbacks.progress(EpochProgress(epoch + 1, done, float(losses.mean()), float(right.float().mean()), wait))
        if not self.saved and step + 1 < self.steps and self.callbacks.preempted():
            self.saved = True
            self.callbacks.save(self._state(epoch, step + 1))

    def _metrics(self, epoch: int, rate: float) -> EpochMetrics:
        totals = self.totals.clone()
        if self.share.world_size > 1:
            torch.distributed.all_reduce(totals)
            self._share_statistics()
        require_finite_weights(self.classifier.backbone, epoch + 1)
        loss, correct = (totals / self.count).tolist()
        measured: tuple[float | None, float | None] = (None, None)
        every = self.config.validate_every
        if self.validation is not None and every and ((epoch + 1) % every == 0 or epoch + 1 == self.config.epochs):
            with self.averaged():
                measured = validate(
                    self.classifier,
                    self.validation,
                    self.config,
                    self.share,
                    seed=self.seed,
                    input_transform=self.input_transform,
                )
        return EpochMetrics(
            epoch=epoch + 1,
            loss=loss,
            accuracy=correct,
            validation_loss=measured[0],
            validation_accuracy=measured[1],
            learning_rate=rate,
            seconds=self.seconds,
            images_per_second=self.count / self.seconds,
            data_wait=self.waited / self.seconds,
            _state=self._state(epoch + 1, 0),
        )

    def _share_statistics(self) -> None:
        """Give all ranks the running statistics of rank 0, which are kept."""
        # Not the average's own counter of steps, which stays on the CPU, where nccl does not reach.
        averaged = [] if self.average is None else [self.average.module]
        for module in (self.classifier.backbone, *averaged):
            for statistic in module.buffers():
                torch.distributed.broadcast(statistic, src=0)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The classifier with its averaged weights, if there are any, for the time of the block."""
        if self.average is None:
            yield
            return
        trained = self.classifier.backbone
        self.classifier.backbone = self.average.module.eval()
        try:
            yield
        finally:
            self.classifier.backbone = trained

    def _state(self, epoch: int, step: int) -> dict[str, Tensor]:
        state = {
            **capture(self.classifier.backbone, self.optimizer, epoch),
            "step": torch.tensor(step),
            "totals": self._totals_of_all(step),
            "seconds": torch.tensor([self.seconds, self.waited] if step else [0.0, 0.0], dtype=torch.float64),
        }
        if self.average is not None:
            state |= named(_AVERAGE, self.average.state_dict())
        return state

    def _totals_of_all(self, step: int) -> Tensor:
        """The sums of an unfinished epoch, over all ranks; zero between epochs."""
        totals = self.totals.clone() if step else torch.zeros_like(self.totals)
        if step and self.share.world_size > 1:
            torch.distributed.all_reduce(totals)
        return totals.cpu()

    def _restore(self, state: Mapping[str, Tensor]) -> tuple[int, int]:
        epoch = restore(self.classifier.backbone, self.optimizer, state, kind="classifier")
        try:
            step = int(state["step"])
            if step and self.share.rank == 0:
                self.totals += state["totals"].to(self.device)
            if step:
                self.seconds, self.waited = state["seconds"].tolist()
            if self.average is not None:
                self.average.load_state_dict(unnamed(_AVERAGE, state))
        except (KeyError, RuntimeError) as error:
            raise TrainingError(f"the saved state is not of this training ({error})") from error
        return epoch, step


def trained_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's state dict in a training's state: the averaged weights where there are any."""
    averaged = unnamed(f"{_AVERAGE}module.", state)
    return averaged or unnamed("model.", state)
