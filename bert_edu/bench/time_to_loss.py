"""Seconds of training from random weights to a given held-out loss, ours beside `transformers`.

Both begin with the same weights and learn from the same sentence pairs in batches of their own making, as
`pretraining.py` times them, with AdamW and one learning rate. They take turns, `EVERY` steps each, and after
every turn their loss is measured at the hidden words of texts that they do not learn from. Only the training
is timed.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count

import torch
import torch.nn.functional as F

from ..data.pretraining import Pair, PreTrainingBatch
from ..heads import IGNORE
from ..training.optim import adamw
from .material import OURS, THEIRS, Settings, real_pairs
from .pretraining import Rounds, their_adamw
from .timing import has_transformers, wait

LEARNING_RATE, WARMUP = 1e-3, 50  # the peak, and the steps that lead up to it
EVERY = 10  # steps of a turn
TURNS = 200  # after so many without reaching the loss a contestant is out
TRAINING_TEXTS = 16  # for each text that is measured


class Run:
    """A contestant's training: a model, what makes its batches, and what it has taken so far."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        step: Callable,
        batches: Callable,
        device: str,
    ):
        self.model, self.step, self.device = model, step, device
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up)
        self.batches = endless(batches)
        self.seconds, self.steps = 0.0, 0

    def turn(self):
        """Trains for `EVERY` steps."""
        self.model.train()
        start = time.perf_counter()
        for _ in range(EVERY):
            self.step(next(self.batches))
            self.schedule.step()
        wait(self.device)
        self.seconds += time.perf_counter() - start
        self.steps += EVERY


def warm_up(done: int) -> float:
    """The share of the learning rate after so many steps."""
    return min(1.0, (done + 1) / WARMUP)


def endless(batches: Callable) -> Iterator:
    """Pass after pass over the texts, each in another order with other words hidden."""
    for number in count():
        yield from batches(torch.Generator().manual_seed(number))


def training_and_held_out(settings: Settings) -> tuple[list[Pair], list[Pair]]:
    """Sentence pairs to learn from, and pairs to measure on."""
    if settings.corpus == "pydocs":  # it has a part that is held out
        return real_pairs(settings, TRAINING_TEXTS * settings.texts, "train"), real_pairs(settings)
    pairs = real_pairs(settings, (TRAINING_TEXTS + 1) * settings.texts)
    return pairs[settings.texts :], pairs[: settings.texts]


@torch.inference_mode()
def held_out_loss(model: torch.nn.Module, batches: list[PreTrainingBatch]) -> float:
    """Nats for each hidden word, by either model."""
    model.eval()
    nats = scored = 0.0
    for batch in batches:
        logits = model(
            batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids
        ).prediction_logits  # (B, T, V)
        hidden = batch.labels != IGNORE  # (B, T)
        nats += float(F.cross_entropy(logits[hidden].float(), batch.labels[hidden], reduction="sum"))
        scored += int(hidden.sum())
    return nats / scored


def runs_of(settings: Settings) -> tuple[dict[str, Run], list[PreTrainingBatch]]:
    """The contestants before their first step, and the held-out batches."""
    training, held_out = training_and_held_out(settings)
    rounds = Rounds(settings, training)
    model = rounds.model()
    optimizer = adamw(model, LEARNING_RATE)
    ours = Run(model, optimizer, rounds.our_step(model, optimizer), rounds.grouped, settings.device)
    runs = {OURS: ours}
    if has_transformers():
        model = rounds.their_model()
        optimizer = their_adamw(model)
        step = rounds.their_step(model, optimizer)
        runs[THEIRS] = Run(model, optimizer, step, rounds.their_batches(), settings.device)
    measured = Rounds(settings, held_out).grouped(torch.Generator().manual_seed(0))
    return runs, [batch.to(settings.device) for batch in measured]


def speed(settings: Settings) -> dict:
    """Seconds and steps of training until the held-out loss is `settings.target_loss`, and the ratio.

    A contestant that does not get there has None for its seconds.
    """
    runs, held_out = runs_of(settings)
    losses = {name: held_out_loss(run.model, held_out) for name, run in runs.items()}
    for _ in range(TURNS):
        for name, run in runs.items():
            if losses[name] > settings.target_loss:
                run.turn()
                losses[name] = held_out_loss(run.model, held_out)
    figures = {"target_loss": settings.target_loss}
    for name, run in runs.items():
        reached = losses[name] <= settings.target_loss
        figures[name] = {
            "seconds": round(run.seconds, 1) if reached else None,
            "steps": run.steps,
            "held_out_loss": round(losses[name], 3),
        }
    if THEIRS in runs and figures[OURS]["seconds"] and figures[THEIRS]["seconds"]:
        figures[THEIRS]["ours_over_it"] = round(runs[THEIRS].seconds / runs[OURS].seconds, 2)
    return figures
