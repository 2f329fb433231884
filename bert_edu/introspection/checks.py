"""Quick checks before and during training, each with a verdict in a sentence (chapter 12).

A check leaves the model, its gradients and the random state as they were. Print a verdict to read it; in a
condition it is true when all is well.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..heads import IGNORE
from .calling import as_call, call, device_of, mode, named_tensors, unchanged_randomness, undisturbed
from .comparing import compare, default_type, first_chance, in_double
from .matching import TOLERANCE, Eyes, relevant_refs
from .tape import Tape

MOST_NAMES = 6


@dataclass
class Verdict:
    """What a check found.

    Attributes:
        check: which one.
        ok: whether all is well.
        text: what was found, and what to do about it.
    """

    check: str
    ok: bool
    text: str

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'LOOK'} {self.check}: {self.text}"


def check_training(model: nn.Module, batch, optimizer: torch.optim.Optimizer | None = None) -> list[Verdict]:
    """Runs the checks that need nothing but a model that is to be trained and a batch of its training data.

    Args:
        model: a model whose output has a `loss` when it is called with `batch`.
        batch: with labels, an `attention_mask` and `input_ids`.
        optimizer: look at its groups too.

    Returns:
        The verdicts, which are printed as they come.
    """
    checks = [
        check_deterministic,
        check_rows_apart,
        check_padding,
        check_every_token,
        check_first_loss,
        check_gradients,
        check_overfits,
    ]
    verdicts = []
    for check in checks:
        verdicts.append(check(model, batch))
        print(verdicts[-1])
    if optimizer is not None:
        verdicts.append(check_weight_decay(optimizer, model))
        print(verdicts[-1])
    return verdicts


# ---- The forward pass --------------------------------------------------------------------------------------


def check_deterministic(model: nn.Module, batch) -> Verdict:
    """In evaluation mode the same batch must give the same numbers twice."""
    with mode(model, training=False):
        found = first_chance(model, batch)
    if found is None:
        return Verdict("same numbers twice", True, "in evaluation mode two passes give the same numbers")
    where, operation = found
    return Verdict(
        "same numbers twice",
        False,
        f"in evaluation mode two passes differ, first in {where or 'the model itself'} (`{operation}`): "
        f"a dropout that does not look at `self.training`?",
    )


def check_rows_apart(model: nn.Module, batch) -> Verdict:
    """A row's result must not depend on what stands in the other rows of the batch."""
    named = _inputs(_named(batch))
    B = named["input_ids"].shape[0]
    if B < 2:
        raise ValueError("to see whether rows influence each other the batch must have at least two")
    changed_ids = named["input_ids"].clone()
    changed_ids[0] = _another(changed_ids[0])
    eyes = _eyes(named)

    def same_below(a: Tensor, b: Tensor) -> bool:
        a, b = eyes.arranged(a), eyes.arranged(b)
        return eyes.same(a[1:], b[1:]) if a.dim() and a.shape[0] == B else eyes.same(a, b)

    with mode(model, training=False):
        tapes = [in_double(model, named), in_double(model, named | {"input_ids": changed_ids})]
    place = _first_difference(*tapes, same_below)
    if place is None:
        return Verdict("rows apart", True, "changing one row leaves the results of the others alone")
    return Verdict(
        "rows apart",
        False,
        f"changing the first row changes others, first in {place}: something mixes along the batch's axis",
    )


def check_padding(model: nn.Module, batch) -> Verdict:
    """Results must depend neither on what stands under the padding nor on how much of it there is.

    Args:
        batch: a mapping with `input_ids`, and `attention_mask` if it has padding; two columns are added.
    """
    named = _inputs(_named(batch))
    ids = named["input_ids"]
    mask = named.get("attention_mask", torch.ones_like(ids))
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    T = ids.shape[1] if longest is None else min(ids.shape[1], longest - 2)
    short = {name: _cut(part, ids.shape, T) for name, part in named.items()} | {"attention_mask": mask[:, :T]}
    padded = {name: _with_columns(part, short["input_ids"].shape, name) for name, part in short.items()}
    real = padded["attention_mask"].bool()
    other = padded | {"input_ids": torch.where(real, padded["input_ids"], _another(padded["input_ids"]))}
    with mode(model, training=False):
        try:
            with_padding, without = in_double(model, padded), in_double(model, short)
        except RuntimeError as error:
            text = f"the model takes no other length than its first: {str(error).splitlines()[0]}"
            return Verdict("padding", False, text + ". Something in it has the number of tokens built in")
        place = _first_difference(with_padding, in_double(model, other), _eyes(padded, real).same)
    if place is not None:
        text = f"what stands under the padding changes the result, first in {place}: no mask reaches it"
        return Verdict("padding", False, text)
    eyes = _eyes(short, short["attention_mask"].bool())
    for (name, long_), (_, short_) in zip(named_tensors(with_padding.output), named_tensors(without.output)):
        if long_.is_floating_point() and not eyes.same(_cut(long_, padded["input_ids"].shape, T), short_):
            return Verdict(
                "padding", False, f"two more columns of padding change {name}, whatever stands in them"
            )
    return Verdict("padding", True, "neither the padding's content nor its length changes a result")


def check_every_token(model: nn.Module, batch) -> Verdict:
    """In a model that reads both ways, every token's result must depend on every token that is not hidden."""
    named = _named(batch)
    ids = named["input_ids"]
    mask = named.get("attention_mask", torch.ones_like(ids))
    row = int(mask.sum(1).argmax())
    real = mask[row].nonzero().flatten()
    n = len(real)
    one = {name: part[row : row + 1].expand(n + 1, *part.shape[1:]) for name, part in _inputs(named).items()}
    changed_ids = one["input_ids"].clone()
    for copy_number, position in enumerate(real.tolist()):  # copy j has another token at position j
        changed_ids[copy_number, position] = _another(changed_ids[copy_number, position])
    with (
        mode(model, training=False),
        undisturbed(model, torch.float64),
        default_type(torch.float64),
        torch.no_grad(),
    ):
        output = call(model, one | {"input_ids": changed_ids})
    hidden = next((t for _, t in named_tensors(output) if t.dim() == 3 and t.shape[1] == ids.shape[1]), None)
    if hidden is None:
        raise ValueError(
            "to see which token reads which, the model must return a tensor with a vector per token"
        )
    change = (hidden[:n] - hidden[n]).abs().amax(-1)[:, real]  # (changed token, token that may notice)
    unread = (change <= 1e-12 * hidden.abs().max()).nonzero().tolist()
    if not unread:
        return Verdict("every token counts", True, f"each of {n} tokens changes the result of every other")
    from_, to = unread[0]
    text = (
        f"{len(unread)} of {n * n} pairs do not: token {int(real[to])} does not read token {int(real[from_])}"
    )
    later = all(a > b for a, b in unread)
    if later and len(unread) == n * (n - 1) // 2:
        text += ". None reads a later one: this is the mask of a decoder"
    return Verdict("every token counts", False, text)


def check_against(mine: nn.Module, reference: nn.Module, batch) -> Verdict:
    """A model must agree with one to trust that has the same weights: the verdict of `compare`."""
    found = compare(mine, reference, batch)
    if found.agree:
        return Verdict("reference", True, found.summary)
    cause = f"; {found.causes[0].text}" if found.causes else ""
    place = found.first.mine or "the model itself"
    return Verdict("reference", False, f"first difference in {place}{cause}")


# ---- Loss and gradients ------------------------------------------------------------------------------------


def check_first_loss(model: nn.Module, batch) -> Verdict:
    """Before training a model must guess: the loss is ln V for words and ln 2 for sentence pairs.

    The most it may be off is 0.35 nats in words and 0.15 in pairs. Loss parts are read from `mlm_loss` and
    `nsp_loss` where the output has them, else the sum is taken.
    """
    named = _named(batch)
    with mode(model, training=False), undisturbed(model), torch.no_grad():
        output = call(model, named)
    expected = {}
    if named.get("labels") is not None:
        expected["labels"] = (getattr(output, "mlm_loss", None), _choices(model, output), 0.35)
    if named.get("next_sentence_label") is not None:
        expected["pairs"] = (getattr(output, "nsp_loss", None), 2, 0.15)
    if not expected:
        raise ValueError("the first loss needs a batch with `labels` or `next_sentence_label`")
    if any(part is None for part, _, _ in expected.values()):
        total = sum(math.log(choices) for _, choices, _ in expected.values())
        margin = sum(margin for _, _, margin in expected.values())
        lines = [("the sum", float(_loss(output)), total, margin)]
    else:
        lines = [(name, float(part), math.log(n), margin) for name, (part, n, margin) in expected.items()]
    text = ", ".join(f"{name} {found:.3f} (chance is {chance:.3f})" for name, found, chance, _ in lines)
    ok = all(abs(found - chance) <= margin for _, found, chance, margin in lines)
    if not ok:
        high = any(found > chance + margin for _, found, chance, margin in lines)
        text += ". Too high: the first weights are too large (std 0.02?), or labels are wrong" if high else ""
        text += (
            "" if high else ". Too low: the answer leaks into the input, or few positions are scored at all"
        )
    return Verdict("first loss", ok, text)


def check_gradients(model: nn.Module, batch) -> Verdict:
    """The loss of a batch must send a gradient to every parameter."""
    parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
    frozen = [name for name, part in model.named_parameters() if not part.requires_grad]
    with mode(model, training=False), undisturbed(model):
        loss = _loss(call(model, batch))
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    missing, zero, broken = [], [], []
    for name, gradient in zip(parameters, gradients):
        if gradient is None:
            missing.append(name)
        elif not bool(torch.isfinite(gradient).all()):
            broken.append(name)
        elif not bool(gradient.any()):
            zero.append(name)
    parts = [
        (missing, "the loss does not depend on"),
        (zero, "the gradient is 0 at"),
        (broken, "the gradient is NaN or infinite at"),
        (frozen, "no gradient is wanted (requires_grad is False) at"),
    ]
    text = "; ".join(f"{words} {_listed(names)}" for names, words in parts if names)
    if not text:
        return Verdict("gradients", True, f"all {len(parameters)} parameters get one")
    return Verdict("gradients", False, text)


def check_overfits(
    model: nn.Module, batch, *, steps: int = 100, learning_rate: float = 1e-3, share: float = 0.1
) -> Verdict:
    """A model must be able to learn one batch by heart: the loss falls to a tenth of its first value.

    Without dropout, with AdamW, from the weights as they are; afterwards they are as they were.
    """
    with mode(model, training=False), _weights_put_back(model), torch.enable_grad():
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
        first = last = math.nan
        for step in range(steps + 1):
            loss = _loss(call(model, batch))
            last = float(loss.detach())
            first = last if step == 0 else first
            if not math.isfinite(last) or last <= share * first or step == steps:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    text = f"from {first:.3f} to {last:.3f} in {step} steps"
    if last <= share * first:
        return Verdict("overfits one batch", True, text)
    return Verdict(
        "overfits one batch",
        False,
        f"{text}, not to {share * first:.3f}: something between input and loss is cut, or the learning rate "
        f"({learning_rate:g}) does not fit",
    )


def check_scored_positions(
    loss_function: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    labels: Tensor,
    *,
    ignored: int = IGNORE,
) -> Verdict:
    """A loss must score the positions with a label, all of them alike, and nothing else.

    What a loss scores is told by its gradient: at a scored position it is (softmax - one-hot) / N with N the
    number of scored positions, elsewhere 0.

    Args:
        loss_function: takes logits (..., C) and labels (...) and returns a scalar.
        logits: (..., C); random ones will do.
        labels: (...), `ignored` where nothing is to be scored. Every class should occur.
    """
    logits = logits.detach().double().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_function(logits, labels), logits)
    logits = logits.detach()
    scored = labels != ignored
    felt = gradient.abs().amax(-1) > 0
    name = "scored positions"
    if bool((felt & ~scored).any()):
        n = int((felt & ~scored).sum())
        text = (
            f"the loss also counts {n} of {int((~scored).sum())} positions without a label: no mask in effect"
        )
        return Verdict(name, False, text)
    if bool((scored & ~felt).any()):
        left = sorted({int(label) for label in labels[scored & ~felt]})
        return Verdict(
            name, False, f"positions with the label {', '.join(map(str, left[:5]))} are not scored"
        )
    target = nn.functional.one_hot(labels[scored], logits.shape[-1]).double()
    expected = (logits[scored].softmax(-1) - target) / scored.sum()
    ratio = float((gradient[scored] * expected).sum() / expected.square().sum())
    if not torch.allclose(gradient[scored], ratio * expected, atol=1e-12):
        return Verdict(
            name, False, "the right positions are scored, but not by their mean negative log-likelihood"
        )
    if not math.isclose(ratio, 1.0, rel_tol=1e-6):
        text = f"the loss is {ratio:.3g} times the mean over the {int(scored.sum())} scored positions"
        return Verdict(name, False, text + ": divided by another count?")
    return Verdict(name, True, f"the mean over the {int(scored.sum())} scored positions, and nothing else")


# ---- Data and optimiser ------------------------------------------------------------------------------------


def check_labels(original_ids: Tensor, input_ids: Tensor, labels: Tensor, tokenizer) -> Verdict:
    """Labels must be the original ids, at the chosen positions only, and never a special token.

    Args:
        original_ids: (B, T) before masking.
        input_ids, labels: (B, T) each, after it.
        tokenizer: knows which ids are special.
    """
    scored = labels != IGNORE
    special = torch.isin(original_ids, torch.tensor(sorted(tokenizer.special_ids)))
    wrong = scored & (labels != original_ids)
    problems = []
    if bool((labels[scored] == tokenizer.mask_token_id).any()):
        problems.append(
            "[MASK] itself is a label: labels were taken after the replacement, so the model learns to copy"
        )
    elif bool(wrong.any()):
        problems.append(f"{int(wrong.sum())} labels are not the original token")
    if bool((scored & special).any()):
        problems.append(f"{int((scored & special).sum())} special tokens are to be predicted")
    if bool(((input_ids != original_ids) & ~scored).any()):
        problems.append("tokens were changed that are not scored")
    empty = int((~scored.any(1)).sum())
    if empty:
        problems.append(f"{empty} of {len(labels)} rows have nothing to predict")
    text = "; ".join(problems) or f"{int(scored.sum())} labels, each the original of an ordinary token"
    return Verdict("labels", not problems, text)


def check_masking_shares(
    original_ids: Tensor,
    input_ids: Tensor,
    labels: Tensor,
    tokenizer,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Verdict:
    """Of the chosen tokens 80 % must be [MASK], 10 % random, 10 % as they were.

    Each share may be off by four standard deviations; with 20,000 chosen tokens that is 1.1 points of the 80.

    Args: as for `check_labels`; `shares` are those of [MASK], random and kept.
    """
    scored = labels != IGNORE
    n = int(scored.sum())
    if n == 0:
        raise ValueError("not one position has a label, so there are no shares to look at")
    masked = float((input_ids[scored] == tokenizer.mask_token_id).double().mean())
    kept = float((input_ids[scored] == original_ids[scored]).double().mean())
    found = (masked, 1 - masked - kept, kept)
    by_chance = shares[1] / (tokenizer.vocab_size - len(tokenizer.special_ids))  # random, and yet the same
    expected = (shares[0], shares[1] - by_chance, shares[2] + by_chance)
    off = [abs(a - b) > 4 * math.sqrt(b * (1 - b) / n) for a, b in zip(found, expected)]
    text = " / ".join(f"{100 * share:.1f}" for share in found)
    text = f"{text} % are masked / random / kept, of {n} chosen"
    if any(off):
        wanted = " / ".join(f"{100 * share:.0f}" for share in shares)
        text += f"; {wanted} were wanted: are the three decided by one draw?"
    return Verdict("masking shares", not any(off), text)


def check_weight_decay(optimizer: torch.optim.Optimizer, model: nn.Module) -> Verdict:
    """Every parameter must be in one group; matrices decay, biases and LayerNorms do not."""
    decay: dict[int, list[float]] = {}
    for group in optimizer.param_groups:
        for part in group["params"]:
            decay.setdefault(id(part), []).append(group.get("weight_decay", 0.0))
    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    missing = [name for name, part in trained.items() if id(part) not in decay]
    twice = [name for name, part in trained.items() if len(decay.get(id(part), [])) > 1]
    vectors = [n for n, part in trained.items() if part.dim() < 2 and any(decay.get(id(part), [0.0]))]
    matrices = [n for n, part in trained.items() if part.dim() >= 2 and not any(decay.get(id(part), [1.0]))]
    parts = [
        (missing, "the optimiser does not know"),
        (twice, "in more than one group are"),
        (vectors, "decayed, though biases and LayerNorms should not be, are"),
        (matrices, "not decayed, though matrices should be, are"),
    ]
    text = "; ".join(f"{words} {_listed(names)}" for names, words in parts if names)
    free = [index for index, group in enumerate(optimizer.param_groups) if not group["params"]]
    if free:
        text += f"{'; ' if text else ''}group {', '.join(map(str, free))} is empty"
    if not text:
        text = f"{len(trained)} parameters, each in one group; matrices decay, vectors do not"
        return Verdict("weight decay", True, text)
    return Verdict("weight decay", False, text)


# ---- What the checks share ---------------------------------------------------------------------------------


def _eyes(batch, real: Tensor | None = None) -> Eyes:
    ids = _named(batch)["input_ids"]
    return Eyes(*ids.shape, real, TOLERANCE[torch.float64])


def _first_difference(first: Tape, second: Tape, same: Callable[[Tensor, Tensor], bool]) -> str | None:
    """Where two passes of one model first differ, in words."""
    for ref in relevant_refs(first):
        if not same(first[ref], second[ref]):
            step = first.steps[ref.step]
            return f"{step.where or 'the model itself'} (`{step.name}`)"
    return None


def _named(batch) -> dict:
    positional, named = as_call(batch)
    if positional or "input_ids" not in named:
        raise TypeError("this check needs a batch with names: a mapping or a dataclass that has `input_ids`")
    return named


def _inputs(named: dict) -> dict:
    """The batch without its labels."""
    return {name: part for name, part in named.items() if "label" not in name and isinstance(part, Tensor)}


def _another(ids: Tensor) -> Tensor:
    """Other ids of the same vocabulary: each one's neighbour."""
    return torch.where(ids > 1, ids - 1, ids + 1)


def _cut(part, shape, T: int):
    """The first T columns of what has a column for each token."""
    is_tokens = isinstance(part, Tensor) and part.dim() > 1 and part.shape[:2] == shape
    return part[:, :T] if is_tokens else part


def _with_columns(part, shape, name: str, columns: int = 2):
    """Two more columns of padding."""
    if not isinstance(part, Tensor) or part.dim() != 2 or part.shape != shape:
        return part
    fill = 1 if name == "input_ids" else 0
    return torch.cat([part, torch.full((shape[0], columns), fill, dtype=part.dtype, device=part.device)], 1)


def _loss(output) -> Tensor:
    loss = output if isinstance(output, Tensor) else getattr(output, "loss", None)
    if loss is None and isinstance(output, dict):
        loss = output.get("loss")
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError("the model returned no loss: call it with a batch that has labels")
    return loss


def _choices(model: nn.Module, output) -> int:
    for name in ("scored_logits", "prediction_logits", "logits"):
        logits = getattr(output, name, None)
        if logits is not None:
            return logits.shape[-1]
    return model.config.vocab_size


@contextlib.contextmanager
def _weights_put_back(model: nn.Module):
    weights = [(part, part.detach().clone(), part.grad) for part in model.parameters()]
    try:
        for part, _, _ in weights:
            part.grad = None
        with undisturbed(model), unchanged_randomness(device_of(model)):
            yield
    finally:
        with torch.no_grad():
            for part, before, gradient in weights:
                part.copy_(before)
                part.grad = gradient


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
