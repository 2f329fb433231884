"""Switching heads off: what does a model lose when one of them falls silent (chapter 17)?"""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from ..model import BertModel


@contextlib.contextmanager
def heads_off(model: nn.Module, heads: Iterable[tuple[int, int]]) -> Iterator[None]:
    """A region in which some heads add nothing to what their layer writes::

        with heads_off(model, [(1, 0), (2, 3)]):
            loss = model(**batch).loss

    What a head has read, D numbers for each token, is replaced by zeros before the output projection: the
    same as zeros in the head's D columns of `output.weight`. The projection's bias and all other heads stay.
    No weight is touched: hooks do it, and they are gone when the block is left, however it is left.

    Args:
        model: a `BertModel`, or one of this package's models with a head on it.
        heads: pairs (layer, head), both counted from 0.

    Raises:
        TypeError: for another kind of model, and for a compiled one, which would not notice the hooks.
        ValueError: for a head that does not exist.

    Source: Michel et al. (2019), "Are Sixteen Heads Really Better than One?", section 2.3.
    """
    bert = getattr(model, "bert", model)
    if hasattr(model, "_orig_mod") or not isinstance(bert, BertModel):
        raise TypeError(
            f"heads_off takes a BertModel or a model with one as `bert`, not compiled, and not a "
            f"{type(model).__name__}"
        )
    L, A = bert.config.num_hidden_layers, bert.config.num_attention_heads
    silent = [[] for _ in range(L)]
    for layer, head in heads:
        if not (0 <= layer < L and 0 <= head < A):
            raise ValueError(
                f"there is no head {head} in layer {layer}: "
                f"this model has layers 0 to {L - 1} with heads 0 to {A - 1}"
            )
        silent[layer].append(head)
    handles = []
    try:
        for layer, chosen in zip(bert.encoder.layers, silent):
            if chosen:
                hook = _silencing(chosen, layer.attention.head_size)
                handles.append(layer.attention.output.register_forward_pre_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silencing(heads: list[int], D: int):
    def hook(projection: nn.Linear, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (context,) = inputs  # (B, T, H), the heads side by side
        keep = torch.ones_like(context[0, 0])  # (H,)
        for head in heads:
            keep[head * D : (head + 1) * D] = 0
        return (context * keep,)

    return hook
