"""Forms of activation and of normalisation that are seen in BERT code, to try in each other's place."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS = {
    "relu": F.relu,
    "gelu, the exact form with erf": F.gelu,
    "gelu, the form with tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu, the quick form with sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
}
ACTIVATION_OPERATIONS = {"relu", "gelu", "silu", "tanh", "sigmoid", "elu", "leaky_relu"}
COMMON_EPS = (0.0, 1e-12, 1e-8, 1e-6, 1e-5, 1e-3)


def normalised(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float,
    outside: bool = False,
    unbiased: bool = False,
    centred: bool = True,
    root: bool = True,
    axes: tuple[int, ...] = (-1,),
    use_weight: bool = True,
    use_bias: bool = True,
) -> Tensor:
    """LayerNorm and what is written in its place.

    Args:
        x: (..., H)
        eps: the small number.
        outside: add it to the standard deviation, not to the variance inside the root.
        unbiased: divide by n - 1, not by n.
        centred: subtract the mean.
        root: take the root of the variance.
        axes: what is averaged over.
        use_weight, use_bias: multiply by `weight`, add `bias`.
    """
    mean = x.mean(axes, keepdim=True)
    variance = x.var(axes, unbiased=unbiased, keepdim=True)
    if not centred:
        mean, variance = 0.0, x.square().mean(axes, keepdim=True)
    if not root:
        y = (x - mean) / (variance + eps)
    else:
        y = (x - mean) / (variance.sqrt() + eps if outside else (variance + eps).sqrt())
    if weight is not None and use_weight:
        y = y * weight
    return y + bias if bias is not None and use_bias else y


def normalisations(right_eps: float, seen: set[float]) -> Iterator[tuple[str, dict]]:
    """(in words, arguments of `normalised`) of forms that differ from LayerNorm.

    Args:
        right_eps: LayerNorm's own.
        seen: further values to try, those that occur in the model under suspicion.
    """
    for eps in (right_eps, *sorted({*seen, *COMMON_EPS} - {right_eps})):
        for outside in (False, True):
            for unbiased in (False, True):
                if outside or unbiased or eps != right_eps:
                    words = f"with {'unbiased' if unbiased else 'biased'} variance and eps {eps:g}"
                    words += " outside the root" if outside else " inside the root"
                    yield words, dict(eps=eps, outside=outside, unbiased=unbiased)
    yield "without its weight", dict(eps=right_eps, use_weight=False)
    yield "without its bias", dict(eps=right_eps, use_bias=False)
    yield "without its weight and bias", dict(eps=right_eps, use_weight=False, use_bias=False)
    yield "without subtracting the mean", dict(eps=right_eps, centred=False)
    yield "without subtracting the mean, without its bias", dict(eps=right_eps, centred=False, use_bias=False)
    yield "with the variance in the place of its root", dict(eps=right_eps, root=False)
    yield "over the tokens, not the components,", dict(eps=right_eps, axes=(-2,))
    yield "over tokens and components together,", dict(eps=right_eps, axes=(-2, -1))


def named_numbers(config) -> dict[float, str]:
    """The numbers that have a name in a model of these sizes: 2.828 is sqrt(D) where D is 8."""
    H, A = (getattr(config, name, None) for name in ("hidden_size", "num_attention_heads"))
    if not H or not A:
        return {}
    numbers = {}
    for name, size in (("D", H / A), ("H", H), ("A", A)):
        numbers |= {math.sqrt(size): f"sqrt({name})", 1 / math.sqrt(size): f"1/sqrt({name})"}
        numbers |= {float(size): name, 1 / size: f"1/{name}"}
    return numbers
