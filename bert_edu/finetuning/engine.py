"""Fine-tuning: from a pre-trained encoder and labelled examples to a model for a task (chapters 13-15).

The engine knows nothing of labels. A `Task` turns examples into features and a model's output into
predictions; everything else is the same for all tasks and stands here once.
"""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..model import initialise_weights
from ..pretrained import replacing
from ..training.loop import (
    METRICS_FILE,
    RECIPE_FILE,
    TrainingError,
    attention_kernels,
    autocast_for,
    choose_device,
    choose_precision,
)
from ..training.optim import SideBySide, adamw, linear_warmup_decay
from ..training.reproducibility import seed_everything
from .batches import Feature, grouped_by_length, on_device
from .frozen import EncoderCache
from .models import set_dropout

CACHE_LIMIT = 2e9  # bytes of encoder outputs that are kept, at most
CHECK_EVERY = 20  # steps between two looks at the losses: each look makes the host wait for a GPU

# What suits a head that learns alone: it is small, its inputs never change, and with cached outputs an epoch
# costs almost nothing. Recipe(frozen=True, **HEAD_ALONE)
HEAD_ALONE = {"epochs": 20, "learning_rate": 1e-2}


@dataclass
class Recipe:
    """Everything that decides a fine-tuning run besides the model and the examples.

    Attributes:
        epochs: how often each example is seen.
        batch_size: examples (for long texts: windows) in a step, at most.
        learning_rate: the peak. Small models want about ten times BERT-base's 3e-5.
        warmup: share of the steps in which the learning rate rises; afterwards it falls to 0.
        layer_decay: below 1, each layer learns that many times slower than the one above it: the head has
            the full rate, the embeddings the lowest.
        frozen: only the head learns. The encoder (the pooler belongs to it) keeps every weight, and runs
            without dropout, so its outputs are computed once and kept: many epochs cost almost nothing.
        dropout: BERT's 0.1 in all its places, also when the model was pre-trained without.
        seed: decides the head's first weights, the order of the examples, and dropout.
        precision: "float32", "bf16" or "fp16" while training; see `choose_precision` for "auto".
            Predictions are always computed in float32.
        max_steps: stop after so many steps, though the epochs are not over; the schedule ends there too.
        init_random: forget the pre-trained weights first. An encoder of the same shape that starts from
            nothing is the control that shows what pre-training is worth.
    """

    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 3e-4
    warmup: float = 0.1
    layer_decay: float = 1.0
    frozen: bool = False
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    dropout: float = 0.1
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    max_steps: int | None = None
    init_random: bool = False

    def __post_init__(self):
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, or None, not {self.max_steps!r}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the run, at least 0 and below 1, not {self.warmup!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout!r}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay!r}")
        if self.frozen and self.layer_decay != 1:
            raise ValueError("layer_decay is for layers that learn: leave it out, or do not freeze them")


# ---- What a task is ----------------------------------------------------------------------------------------


class Task(Protocol):
    """What the engine asks of classification, tagging and question answering.

    Attributes:
        main_metric: the development score that chooses the best epoch; the higher the better.

    A task may also have `loss(output, batch)`, where the model's own loss is not what it wants, and
    `calibrated(examples, predictions)`, where something of it is chosen on the development set after every
    epoch: a task with that choice, and the predictions that it comes to.
    """

    main_metric: str

    def new_model(self, folder: str) -> nn.Module:
        """The pre-trained encoder from a folder under a head with fresh weights."""

    def features(self, examples: list) -> list[Feature]:
        """The tokenised examples; one of them may give several features."""

    def collate(self, features: list[Feature]) -> dict[str, Tensor]:
        """Keyword arguments for the model's `forward`, with the labels where every feature has them."""

    def raw(self, output, features: list[Feature]) -> list:
        """What the model said about each feature, without padding, as NumPy arrays."""

    def predictions(self, examples: list, features: list[Feature], raw: list) -> list[dict]:
        """One prediction an example, ready for JSON."""

    def score(self, examples: list, predictions: list[dict]) -> dict[str, float]:
        """How good predictions are."""

    def save(self, model: nn.Module, folder: Path):
        """Writes the model, its tokenizer, and what the task must remember."""

    @classmethod
    def load(cls, folder: str) -> tuple["Task", nn.Module]:
        """Reads what `save` wrote."""


# ---- The optimiser -----------------------------------------------------------------------------------------


def optimizer_for(model: nn.Module, recipe: Recipe) -> SideBySide:
    """AdamW, one for each depth of the model, with the learning rate of that depth as `peak` in its groups.

    The head (and the pooler) has the recipe's learning rate; every layer below has `layer_decay` times that
    of the one above it; the embeddings come last. A frozen encoder has none.

    Source: layer-wise decay is from Howard and Ruder (2018), "Universal language model fine-tuning",
    section 3.2; for BERT Sun et al. (2019), "How to fine-tune BERT for text classification", section 5.3.3.
    """
    rate, below = recipe.learning_rate, []
    optimizers = []
    encoder_parts = [] if recipe.frozen else [model.bert.embeddings, *model.bert.encoder.layers]
    for part in reversed(encoder_parts):
        rate *= recipe.layer_decay
        optimizers.append(adamw(part, rate, weight_decay=recipe.weight_decay))
        below += part.parameters()
    head = adamw(model, recipe.learning_rate, weight_decay=recipe.weight_decay, leave_out=below)
    optimizer = SideBySide(head, *optimizers)
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


# ---- Fine-tuning -------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What a run leaves.

    Attributes:
        model: that of the best epoch, in eval mode.
        task: what reads examples for it, with what that epoch chose (see `Task`).
        scores: its scores on the development set.
        history: for each epoch `epoch`, `step`, `loss` (the mean of the epoch), `seconds` of training,
            `tokens_per_second` (no padding counted), and the development scores.
        best_epoch: counted from 1.
        losses: the training loss of every step.
    """

    model: nn.Module
    task: Task
    scores: dict[str, float]
    history: list[dict]
    best_epoch: int = 0
    losses: list[float] = field(default_factory=list)


def finetune(
    task: Task,
    folder: str | Path,
    train: list,
    dev: list,
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
    cache: bool = True,
) -> Result:
    """Fine-tunes a pre-trained model on labelled examples, and returns it as it was after its best epoch.

    Args:
        task: what is to be learned.
        folder: where the pre-trained model is.
        train, dev: examples to learn from, and others to measure on after every epoch. `task.main_metric`
            says which epoch was the best; of equally good ones it is the first.
        recipe: None takes the defaults.
        out: a new or empty folder for the model, the tokenizer, the recipe and the metrics.
        report: called with every line for the person who waits.
        progress: called with the number of steps done and of those there will be.
        cache: whether a frozen encoder's outputs are computed once and kept (if they fit: `CACHE_LIMIT`).

    The same recipe on the same machine gives the same result.

    Raises:
        ValueError: when an example has no label or one that is unknown, or there are none at all; when model
            and tokenizer do not fit; when `out` holds something.
        TrainingError: when the loss is not finite.
    """
    recipe = recipe or Recipe()
    refuse_to_write_over(out)
    device = choose_device(recipe.device)
    precision = choose_precision(recipe.precision, device)
    autocast = autocast_for(precision, device)
    train_features = _labelled_features(task, train, "training", report)
    dev_features = _labelled_features(task, dev, "development", report)

    seed_everything(recipe.seed)
    model = _starting_model(task, folder, recipe).to(device)
    _check_lengths(model, train_features + dev_features)
    train_cache = dev_cache = None
    if recipe.frozen and cache:
        size = EncoderCache.bytes_for(model, train_features + dev_features)
        if size <= CACHE_LIMIT:
            report(f"the encoder is frozen: its outputs are computed once and kept ({size / 1e6:,.0f} MB)")
            train_cache = EncoderCache(task, model, train_features, 64, autocast)
            dev_cache = EncoderCache(task, model, dev_features, 64, contextlib.nullcontext)
        else:
            report(f"the frozen encoder's outputs would take {size / 1e9:.1f} GB: computed in every epoch")

    calibrated = getattr(task, "calibrated", lambda examples, predictions: (task, predictions))
    trainer = Trainer(task, model, recipe, device, precision, train_features, train_cache)
    best, best_state, history = None, {}, []
    for epoch in range(1, recipe.epochs + 1):
        line = {"epoch": epoch} | trainer.epoch(epoch, progress)
        raw = _raw(task, model, dev_features, 64, dev_cache)
        chosen, predictions = calibrated(dev, task.predictions(dev, dev_features, raw))
        scores = chosen.score(dev, predictions)
        history.append(line | scores)
        report(f"epoch {epoch}/{recipe.epochs}  loss {line['loss']:.4f}  " + shown(scores))
        if best is None or _comparable(scores[task.main_metric]) > _comparable(best[task.main_metric]):
            best, best_epoch, best_state, best_task = scores, epoch, _state(model), chosen
        if trainer.is_over:
            break
    model.load_state_dict(best_state, strict=False)
    model.requires_grad_(True).eval()
    result = Result(model, best_task, best, history, best_epoch, trainer.losses)
    if out is not None:
        best_task.save(model, Path(out))
        resolved = asdict(recipe) | {"device": str(device), "precision": precision}
        _write_record(Path(out), resolved, history)
    return result


class Trainer:
    """A model on its way through the epochs: optimiser, schedule, order of the examples.

    Args:
        model: on the device, with dropout set, and with gradients only where it is to learn.
        precision: "float32", "bf16" or "fp16", already chosen.
        features: those of all training examples, with labels.
        cache: what a frozen encoder said about them, if that was kept.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        recipe: Recipe,
        device: torch.device,
        precision: str,
        features: list[Feature],
        cache: EncoderCache | None,
    ):
        self.task, self.model, self.recipe, self.device = task, model, recipe, device
        self.features, self.cache, self.precision = features, cache, precision
        self.autocast = autocast_for(precision, device)
        self.scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        self.loss_of = getattr(task, "loss", lambda output, batch: output.loss)
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = optimizer_for(model, recipe)
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.lengths = [len(feature.input_ids) for feature in features]
        self.total = recipe.epochs * math.ceil(len(features) / recipe.batch_size)
        self.total = min(self.total, recipe.max_steps or self.total)
        self.losses, self.checked = [], 0

    @property
    def is_over(self) -> bool:
        return len(self.losses) >= self.total

    def epoch(self, epoch: int, progress) -> dict:
        """Shows the model every example once, unless the steps are over before."""
        self.model.train()
        if self.recipe.frozen:
            self.model.bert.eval()
        first, tokens, started = len(self.losses), 0, time.perf_counter()
        losses = []
        for numbers in grouped_by_length(self.lengths, self.recipe.batch_size, self.order):
            losses.append(self.step(numbers, first + len(losses)))
            tokens += sum(self.lengths[number] for number in numbers)
            done = first + len(losses)
            if done % CHECK_EVERY == 0 or done == self.total:
                self.check(losses, first, epoch)
            if progress is not None:
                progress(done, self.total)
            if done == self.total:
                break
        self.losses += self.check(losses, first, epoch)
        seconds = time.perf_counter() - started
        return {
            "step": len(self.losses),
            "loss": statistics.fmean(self.losses[first:]),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
        }

    def step(self, numbers: list[int], done: int) -> Tensor:
        """One step of the optimiser on one batch; `done` steps came before. Returns the loss."""
        batch = on_device(self.task.collate([self.features[number] for number in numbers]), self.device)
        # Counted from 1, so that neither the first step nor the last is wasted on a learning rate of 0.
        multiplier = linear_warmup_decay(done + 1, int(self.recipe.warmup * self.total), self.total + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * multiplier
        answers = self.cache.answers(self.model, numbers) if self.cache else contextlib.nullcontext()
        with answers, attention_kernels(self.device, self.precision, batch["input_ids"].shape[1]):
            with self.autocast():
                output = self.model(**batch)
                loss = self.loss_of(output, batch)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.learning, self.recipe.clip_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()
        return loss.detach()

    def check(self, losses: list[Tensor], first: int, epoch: int) -> list[float]:
        """The losses of an epoch so far as numbers; raises when one of them is none."""
        numbers = torch.stack(losses).float().tolist()
        for number, loss in enumerate(numbers, start=first + 1):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {number} (epoch {epoch}): try a lower learning rate than "
                    f"{self.recipe.learning_rate:g}, or a longer warm-up"
                )
        return numbers


def _labelled_features(task: Task, examples: list, side: str, report) -> list[Feature]:
    """The features of examples that all have labels."""
    if not len(examples):
        raise ValueError(f"there are no {side} examples")
    try:
        features = task.features(examples)
    except ValueError as error:
        raise ValueError(f"{side} examples: {error}") from error
    for feature in features:
        if feature.labels is None:
            raise ValueError(f"{side} example {feature.example + 1} has no label")
    cut = sum(getattr(feature, "truncated", False) for feature in features)
    if cut:
        report(f"{cut} of {len(examples)} {side} examples are longer than {task.max_length} tokens: cut off")
    return features


def _starting_model(task: Task, folder: str | Path, recipe: Recipe) -> nn.Module:
    """The model before its first step: dropout set, and frozen or made random where the recipe says so."""
    model = task.new_model(folder)
    if recipe.init_random:
        initialise_weights(model, model.config.initializer_range)
    set_dropout(model, recipe.dropout)
    model.requires_grad_(True)
    model.bert.requires_grad_(not recipe.frozen)
    return model


def _check_lengths(model: nn.Module, features: list[Feature]):
    longest = max(len(feature.input_ids) for feature in features)
    positions = model.config.max_position_embeddings
    if longest > positions:
        raise ValueError(f"an input has {longest} tokens, but the model has {positions} positions")


def _state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what learns, in the CPU's memory."""
    return {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _comparable(score: float) -> float:
    """A score that is undefined, as a correlation with constants is, is the worst."""
    return -math.inf if math.isnan(score) else score


def _write_record(out: Path, recipe: dict, history: list[dict]):
    with replacing(out / RECIPE_FILE) as temporary:
        temporary.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    with replacing(out / METRICS_FILE) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")


def refuse_to_write_over(out: str | Path | None):
    """Raises ValueError unless a folder is new or empty."""
    if out is None or not Path(out).exists():
        return
    if not Path(out).is_dir():
        raise ValueError(f"{out} is a file; name a folder")
    if any(Path(out).iterdir()):
        raise ValueError(f"{out} is not empty, and nothing is written over: name another folder")


def shown(scores: dict[str, float]) -> str:
    """Scores in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


# ---- Predictions -------------------------------------------------------------------------------------------


def predict(
    task: Task, model: nn.Module, examples: list, *, batch_size: int = 64, device: str = "auto"
) -> list[dict]:
    """One prediction an example, in their order; the model stays on the device.

    Raises:
        ValueError: when an example has a label that is unknown (leave labels out where none are needed).
    """
    if not len(examples):
        return []
    return _predictions(task, model, examples, task.features(examples), batch_size, device)


def evaluate(
    task: Task, model: nn.Module, examples: list, *, batch_size: int = 64, device: str = "auto"
) -> dict[str, float]:
    """The scores of a model on labelled examples.

    Raises:
        ValueError: when there are none, or one has no label.
    """
    features = _labelled_features(task, examples, "evaluation", lambda line: None)
    return task.score(examples, _predictions(task, model, examples, features, batch_size, device))


def _predictions(
    task: Task, model: nn.Module, examples: list, features: list[Feature], batch_size: int, device: str
) -> list[dict]:
    _check_lengths(model, features)
    model.to(choose_device(device))
    return task.predictions(examples, features, _raw(task, model, features, batch_size))


def _raw(
    task: Task, model: nn.Module, features: list[Feature], batch_size: int, cache: EncoderCache | None = None
) -> list:
    """What the model says about each feature, in their order."""
    device = next(model.parameters()).device
    model.eval()
    said = [None] * len(features)
    for numbers in grouped_by_length([len(feature.input_ids) for feature in features], batch_size):
        chosen = [features[number] for number in numbers]
        batch = on_device(task.collate(chosen), device)
        answers = cache.answers(model, numbers) if cache else contextlib.nullcontext()
        with torch.inference_mode(), answers:
            output = model(**batch)
        for number, row in zip(numbers, task.raw(output, chosen)):
            said[number] = row
    return said


# ---- Several seeds -----------------------------------------------------------------------------------------


@dataclass
class SeveralSeeds:
    """What several runs that differ in nothing but their seed leave.

    Attributes:
        best: the run with the best development score, with its model; it was chosen on the development set,
            so its score there flatters it, and the mean does not.
        mean, sd: of each score; the standard deviation is that of a sample, None for a single run.
        runs: of each run `seed`, `scores`, `best_epoch` and `history`.
        best_seed: the seed of `best`.
        recipe: what all of them were made with, with the precision that was chosen.
    """

    best: Result
    mean: dict[str, float]
    sd: dict[str, float | None]
    runs: list[dict]
    best_seed: int
    recipe: Recipe


def several_seeds(
    task: Task | Callable[[], Task],
    folder: str | Path,
    train: list,
    dev: list,
    recipe: Recipe | None = None,
    seeds: int | Iterable[int] = 3,
    *,
    out: str | Path | None = None,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
    after_each: Callable[[dict], None] | None = None,
) -> SeveralSeeds:
    """Fine-tunes once for each seed: how far do scores lie apart that differ by nothing but chance?

    Args:
        task: a task, or a function that makes one for each run.
        seeds: which seeds; or how many, counted up from the recipe's.
        out: a new or empty folder; the best run's model goes there, every run's into `seed-N` below it.
        after_each: called with each run's entry in `runs` when it has ended.

    Everything else is as for `finetune`.
    """
    recipe = recipe or Recipe()
    refuse_to_write_over(out)
    precision = choose_precision(recipe.precision, choose_device(recipe.device))
    recipe = replace(recipe, precision=precision)  # the same for all
    numbers = range(recipe.seed, recipe.seed + seeds) if isinstance(seeds, int) else list(seeds)
    if not len(numbers):
        raise ValueError("at least one seed is needed")
    best, runs = None, []
    for seed in numbers:
        one = task() if callable(task) else task
        result = finetune(
            one,
            folder,
            train,
            dev,
            replace(recipe, seed=seed),
            out=None if out is None else Path(out) / f"seed-{seed}",
            report=lambda line, seed=seed: report(f"seed {seed}  {line}"),
            progress=progress,
        )
        run = {"seed": seed, "scores": result.scores, "best_epoch": result.best_epoch}
        runs.append(run | {"history": result.history})
        if after_each is not None:
            after_each(runs[-1])
        metric = one.main_metric
        if best is None or _comparable(result.scores[metric]) > _comparable(best.scores[metric]):
            best, best_seed = result, seed
    if out is not None:
        best.task.save(best.model, Path(out))
    values = {name: [run["scores"][name] for run in runs] for name in runs[0]["scores"]}
    mean = {name: statistics.fmean(found) for name, found in values.items()}
    sd = {name: statistics.stdev(found) if len(found) > 1 else None for name, found in values.items()}
    return SeveralSeeds(best, mean, sd, runs, best_seed, recipe)
