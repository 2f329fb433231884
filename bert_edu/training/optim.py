"""AdamW as BERT uses it, and how the learning rate rises and falls (chapter 11)."""

import torch
from torch import nn


def linear_warmup_decay(step: int, warmup: int, total: int) -> float:
    """The triangle: from 0 up to 1 over `warmup` steps, then down to 0 at `total`.

    Returns the multiplier of the learning rate for step number `step`, counted from 0. With warmup 2 and
    total 10: 0, 0.5, 1, 0.875, 0.75, ... 0.125.

    Source: the schedule of `transformers`. Google's own jumps at the end of warm-up: `google_warmup_decay`.
    """
    _check(step, warmup, total)
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def google_warmup_decay(step: int, warmup: int, total: int) -> float:
    """Google's schedule: a line from 1 down to 0 over all steps, replaced by a rising line during warm-up.

    With warmup 2 and total 10: 0, 0.5, 0.8, 0.7, ... 0.1; it never reaches 1.

    Source: google-research/bert, optimization.py:31-54.
    """
    _check(step, warmup, total)
    if step < warmup:
        return step / warmup
    return max(0.0, 1.0 - step / total)


def _check(step: int, warmup: int, total: int):
    if step < 0 or warmup < 0 or total < 1 or warmup > total:
        raise ValueError(
            f"steps must be 0 <= warmup <= total and step >= 0: step {step}, warmup {warmup}, total {total}"
        )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for the optimiser: with weight decay, and without.

    Biases and LayerNorms are not decayed; everything else is, the embeddings too. They are told apart by
    their shape, a vector or not, so no name can be overlooked.

    Source: google-research/bert, optimization.py:59-65.
    """
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def adamw(
    model: nn.Module,
    learning_rate: float,
    *,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
) -> torch.optim.AdamW:
    """AdamW with BERT's constants and BERT's groups.

    Where we leave the original: Google's has no bias correction, which makes its first steps about three
    times as large (optimization.py:120-148); PyTorch's has it.
    """
    return torch.optim.AdamW(
        parameter_groups(model, weight_decay), lr=learning_rate, betas=betas, eps=eps, fused=True
    )
