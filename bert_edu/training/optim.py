"""AdamW as BERT uses it, Muon as an alternative, and how the learning rate rises and falls (chapter 11)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


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


def parameter_groups(
    model: nn.Module, weight_decay: float, *, leave_out: Iterable[Tensor] = ()
) -> list[dict]:
    """Two groups for the optimiser: with weight decay, and without.

    Args:
        model: its parameters that require a gradient are grouped.
        weight_decay: that of the first group.
        leave_out: parameters that another optimiser moves.

    Biases and LayerNorms are not decayed; everything else is, the embeddings too. They are told apart by
    their shape, a vector or not, so no name can be overlooked.

    Source: google-research/bert, optimization.py:59-65.
    """
    elsewhere = {id(parameter) for parameter in leave_out}
    ours = [p for p in model.parameters() if p.requires_grad and id(p) not in elsewhere]
    matrices = [p for p in ours if p.dim() >= 2]
    vectors = [p for p in ours if p.dim() < 2]
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
    leave_out: Iterable[Tensor] = (),
) -> torch.optim.AdamW:
    """AdamW with BERT's constants and BERT's groups; `leave_out` as for `parameter_groups`.

    Where we leave the original: Google's has no bias correction, which makes its first steps about three
    times as large (optimization.py:120-148); PyTorch's has it.
    """
    return torch.optim.AdamW(
        parameter_groups(model, weight_decay, leave_out=leave_out),
        lr=learning_rate,
        betas=betas,
        eps=eps,
        fused=True,
    )


# ---- Muon --------------------------------------------------------------------------------------------------

# A polynomial that pushes every singular value between 0 and 1 towards 1; five rounds bring nearly all of
# them between 0.7 and 1.2 (Jordan et al. 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrix: Tensor, rounds: int = 5) -> Tensor:
    """U V^T for a matrix U S V^T, roughly: the same directions, but all stretched alike.

    Args:
        matrix: (..., rows, columns), one matrix or several of one shape.

    Returns:
        The same shape, with singular values between about 0.7 and 1.2.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[-2] > matrix.shape[-1]
    X = matrix.mT if tall else matrix  # the products below are the smaller the fewer its rows
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value is above 1
    for _ in range(rounds):
        gram = X @ X.mT  # (..., rows, rows)
        bent = b * gram + c * (gram @ gram)
        X = a * X + bent @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, for matrices inside a network.

    A gradient's matrix usually has a few large singular values and many small ones. Here all directions count
    alike, so what only a few examples ask for is learned too.

    PyTorch has it from version 2.9 on, but always orthogonalises in bfloat16, which many processors only
    emulate; this one computes in the type of the parameters, or in that of the autocast region it steps in.

    Args:
        params: matrices, or groups of them. In a group with `parts`, each matrix is that many stacked ones,
            as query, key and value are.
        lr: as for AdamW: the step is scaled to the size that AdamW's usually has.

    Source: Jordan et al. (2024), "Muon"; the scale from Liu et al. (2025), "Muon is scalable for LLM
    training".
    """

    def __init__(self, params, lr: float, *, weight_decay: float = 0.01, momentum: float = 0.95):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, parts=1))

    @torch.no_grad()
    def step(self):
        """Moves every parameter that has a gradient."""
        for group in self.param_groups:
            alike = {}  # parameters by shape: a GPU takes as long for one small product as for twenty
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                ahead = torch.stack([self._ahead(each, group["momentum"]) for each in parameters])
                steps = orthogonalised(ahead.unflatten(1, (group["parts"], shape[0] // group["parts"])))
                # (parameters, parts, rows of a part, columns)
                scale = 0.2 * max(steps.shape[-2:]) ** 0.5  # root mean square 0.2, as AdamW's steps have
                for parameter, step in zip(parameters, steps.flatten(1, 2)):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step, alpha=group["lr"] * scale)

    def _ahead(self, parameter: Tensor, momentum: float) -> Tensor:
        """The gradient, smoothed over time, and looked at one step ahead (Nesterov)."""
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


class SideBySide:
    """Several optimisers for different parameters of one model, used as if they were one."""

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict]:
        """The groups of all of them; asked for anew each time, since loading a state makes new ones."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self):
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True):
        """Forgets the gradients of all their parameters."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)


def muon(
    model: nn.Module,
    learning_rate: float,
    *,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> SideBySide:
    """Muon for the matrices inside the encoder's layers; AdamW for embeddings, heads, biases and LayerNorms.

    Args:
        model: one with a `BertModel` as its part `bert`.
        betas: AdamW's.
    """
    layers = model.bert.encoder.layers
    stacked = [layer.attention.query_key_value.weight for layer in layers]  # (3H, H) each
    single = [
        part.weight
        for layer in layers
        for part in (layer.attention.output, layer.feed_forward.expand, layer.feed_forward.contract)
    ]
    groups = [{"params": stacked, "parts": 3}, {"params": single}]
    return SideBySide(
        Muon(groups, learning_rate, weight_decay=weight_decay),
        adamw(model, learning_rate, weight_decay=weight_decay, betas=betas, leave_out=stacked + single),
    )
