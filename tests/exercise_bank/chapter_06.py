"""Answers to the exercises of chapter 6."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from . import Answers, mistake

# ---- 6.1: half a layer from its weights --------------------------------------------------------------------


def with_matrices(
    residual="inside", over=-1, unbiased=False, divide="std", eps_where="inside", vectors="wb", gelu="erf",
    biases="ec", order="post", inputs="kept",
):  # fmt: skip
    """All tokens at once."""

    def second_half(hidden, weights, eps=1e-12):
        if inputs == "changed":
            hidden += 1
            hidden = hidden - 1

        def normed(x):
            mean = x.mean(over, keepdim=True)
            centred = x - mean
            variance = (centred**2).mean(over, keepdim=True)
            if unbiased:
                variance = variance * x.shape[-1] / (x.shape[-1] - 1)
            if divide == "nothing":
                below = 1.0
            elif divide == "variance":
                below = variance + eps
            elif eps_where == "inside":
                below = torch.sqrt(variance + eps)
            elif eps_where == "outside":
                below = torch.sqrt(variance) + eps
            else:
                below = torch.sqrt(variance)
            which = "attention_norm" if "other" in vectors else "feed_forward_norm"
            result = centred / below
            if "w" in vectors:
                result = result * weights[f"{which}.weight"]
            return result + weights[f"{which}.bias"] if "b" in vectors else result

        def network(x):
            inner = x @ weights["feed_forward.expand.weight"].T
            if "e" in biases:
                inner = inner + weights["feed_forward.expand.bias"]
            if gelu == "erf":
                inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
            elif gelu == "tanh":
                inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
            elif gelu == "relu":
                inner = inner.clamp(min=0)
            outer = inner @ weights["feed_forward.contract.weight"].T
            return outer + weights["feed_forward.contract.bias"] if "c" in biases else outer

        if order == "pre":
            return hidden + network(normed(hidden))
        if residual == "inside":
            return normed(hidden + network(hidden))
        if residual == "outside":
            return hidden + normed(network(hidden))
        return normed(network(hidden))

    return second_half


def token_by_token(
    residual="inside", over=-1, unbiased=False, divide="std", eps_where="inside", vectors="wb", gelu="erf",
    biases="ec", order="post", inputs="kept",
):  # fmt: skip
    """One token after the other."""

    def second_half(hidden, weights, eps=1e-12):
        w1, b1 = weights["feed_forward.expand.weight"], weights["feed_forward.expand.bias"]
        w2, b2 = weights["feed_forward.contract.weight"], weights["feed_forward.contract.bias"]
        name = "attention_norm" if "other" in vectors else "feed_forward_norm"
        if inputs == "changed":
            weights["feed_forward_norm.bias"][0] += 1.0

        def bend(x):
            return {
                "erf": lambda: x * (0.5 + 0.5 * torch.erf(x * 2**-0.5)),
                "tanh": lambda: x * torch.sigmoid(2 * (2 / math.pi) ** 0.5 * (x + 0.044715 * x * x * x)),
                "relu": lambda: torch.maximum(x, torch.zeros_like(x)),
                "none": lambda: x,
            }[gelu]()

        def network(vector):
            inner = bend(w1 @ vector + (b1 if "e" in biases else 0.0))
            return w2 @ inner + (b2 if "c" in biases else 0.0)

        def norm_of(rows):  # a list of the vectors that share mean and variance
            everything = torch.stack(rows)
            mean = everything.mean(0) if over == -2 else everything.mean()
            centred = everything - mean
            squares = centred * centred
            variance = squares.mean(0) if over == -2 else squares.mean()
            if unbiased:
                variance = squares.sum() / (squares.numel() - 1)
            if divide == "nothing":
                result = centred
            elif divide == "variance":
                result = centred / (variance + eps)
            elif eps_where == "inside":
                result = centred / (variance + eps) ** 0.5
            elif eps_where == "outside":
                result = centred / (variance**0.5 + eps)
            else:
                result = centred / variance**0.5
            weight = weights[name + ".weight"] if "w" in vectors else 1.0
            bias = weights[name + ".bias"] if "b" in vectors else 0.0
            if inputs == "changed":
                bias = bias - torch.eye(len(bias), dtype=bias.dtype)[0]
            return list(weight * result + bias)

        def norm_all(rows):  # rows: B lists of T vectors
            if over == -1:
                return [[norm_of([vector])[0] for vector in row] for row in rows]
            if over == (0, 1, 2):
                flat = norm_of([vector for row in rows for vector in row])
                return [flat[b * len(rows[0]) : (b + 1) * len(rows[0])] for b in range(len(rows))]
            return [norm_of(row) for row in rows]

        rows = [[hidden[b, t] for t in range(hidden.shape[1])] for b in range(hidden.shape[0])]
        if order == "pre":
            made = [[network(vector) for vector in row] for row in norm_all(rows)]
            result = [[x + y for x, y in zip(one, other)] for one, other in zip(rows, made)]
        else:
            made = [[network(vector) for vector in row] for row in rows]
            if residual == "inside":
                made = [[x + y for x, y in zip(one, other)] for one, other in zip(rows, made)]
            result = norm_all(made)
            if residual == "outside":
                result = [[x + y for x, y in zip(one, other)] for one, other in zip(rows, result)]
        return torch.stack([torch.stack(row) for row in result])

    return second_half


def with_einsum(hidden, weights, eps=1e-12):
    part = {name.removeprefix("feed_forward."): weight for name, weight in weights.items()}
    inner = torch.einsum("bth,ih->bti", hidden, part["expand.weight"]) + part["expand.bias"]
    inner = inner * torch.special.ndtr(inner)  # the share of a bell curve below it
    total = hidden + torch.einsum("bti,hi->bth", inner, part["contract.weight"]) + part["contract.bias"]
    variance, mean = torch.var_mean(total, dim=2, correction=0, keepdim=True)
    return (total - mean) * torch.rsqrt(variance + eps) * weights["feed_forward_norm.weight"] + weights[
        "feed_forward_norm.bias"
    ]


class SecondHalf:
    def __call__(self, hidden, weights, eps=1e-12):
        feed, norm = "feed_forward.", "feed_forward_norm."
        x = torch.matmul(hidden, weights[feed + "expand.weight"].t()).add(weights[feed + "expand.bias"])
        x = x.mul(0.5).mul(torch.erfc(-x / 2**0.5))
        x = torch.addmm(
            weights[feed + "contract.bias"], x.flatten(0, 1), weights[feed + "contract.weight"].t()
        ).view_as(hidden)
        x = x + hidden
        x = x - x.mean(-1)[..., None]
        x = x / (x.pow(2).mean(-1)[..., None] + eps).sqrt()
        return torch.addcmul(weights[norm + "bias"], weights[norm + "weight"], x)


HALF = Answers(
    "second_half",
    styles={"matrices": with_matrices, "token by token": token_by_token},
    right={"einsum": with_einsum, "object": SecondHalf()},
    wrong={
        "no residual": mistake("Where is the residual?", residual="none"),
        "residual after LayerNorm": mistake("The residual goes past LayerNorm", residual="outside"),
        "pre-LN": mistake("this is pre-LN", order="pre"),
        "unbiased variance": mistake("H - 1 below", unbiased=True),
        "only centred": mistake("not divided by the standard deviation", divide="nothing"),
        "divided by the variance": mistake("divided by the variance", divide="variance"),
        "normalised over the tokens": mistake("One token alone comes out as 0", over=-2),
        "normalised over the sequence": mistake("over all tokens", over=(-2, -1)),
        "normalised over the batch": mistake("over the whole batch", over=(0, 1, 2)),
        "eps outside the root": mistake("outside the root", eps_where="outside"),
        "eps left out": mistake("eps changes nothing", eps_where="nowhere"),
        "no weight and bias": mistake("own two vectors are missing", vectors=""),
        "no bias in LayerNorm": mistake("LayerNorm's bias is missing", vectors="w"),
        "no weight in LayerNorm": mistake("LayerNorm's weight is missing", vectors="b"),
        "vectors of the other norm": mistake("the layer's other norm", vectors="wb, other"),
        "tanh form of GELU": mistake("the tanh form", gelu="tanh"),
        "ReLU": mistake("is ReLU", gelu="relu"),
        "no activation": mistake("no bend", gelu="none"),
        "no bias in expand": mistake("bias of `expand`", biases="c"),
        "no bias in contract": mistake("bias of `contract`", biases="e"),
        "input changed": mistake("in place, and whoever", inputs="changed"),
    },
    two_at_once=(dict(gelu="tanh", eps_where="outside"), "eps outside the root"),
)


# ---- 6.2: a gated feed-forward network ---------------------------------------------------------------------


def with_linears(gate=F.gelu, on="gate", join="times", width="two thirds", names="gate expand contract",
                 over_tokens=False, residual=False, bias=True):  # fmt: skip
    """Three linear layers, in one line."""

    class GatedFeedForward(nn.Module):
        def __init__(self, config):
            super().__init__()
            H, inner = config.hidden_size, config.intermediate_size
            M = {
                "two thirds": round(inner * 2 / 3),
                "all": inner,
                "half": inner // 2,
                "from H": round(8 * H / 3),
            }[width]
            first, second, third = names.split()
            setattr(self, first, nn.Linear(H, M, bias=bias))
            setattr(self, second, nn.Linear(H, M, bias=bias))
            setattr(self, third, nn.Linear(M, H, bias=bias))

        def forward(self, hidden):
            first, second, third = (getattr(self, name) for name in names.split())
            opened, carried = first(hidden), second(hidden)
            if on == "gate":
                opened = gate(opened)
            elif on == "expand":
                carried = gate(carried)
            elif on == "both":
                opened, carried = gate(opened), gate(carried)
            joined = {"times": opened * carried, "plus": opened + carried, "gate only": opened}[join]
            if on == "product":
                joined = gate(joined)
            if over_tokens:
                joined = joined - joined.mean(dim=1, keepdim=True) + joined[:, :1]
            return third(joined) + hidden if residual else third(joined)

    return GatedFeedForward


def with_parameters(gate=F.gelu, on="gate", join="times", width="two thirds", names="gate expand contract",
                    over_tokens=False, residual=False, bias=True):  # fmt: skip
    """Layers of our own, and einsum."""

    class Projection(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02)
            if bias:
                self.bias = nn.Parameter(torch.zeros(outputs))

        def forward(self, x):
            y = torch.einsum("...i,oi->...o", x, self.weight)
            return y + self.bias if bias else y

    class GatedFeedForward(nn.Module):
        def __init__(self, config):
            super().__init__()
            inner = config.intermediate_size
            if width == "two thirds":
                inner = (2 * inner) // 3
            elif width == "half":
                inner = inner // 2
            elif width == "from H":
                inner = (4 * config.hidden_size * 2) // 3
            sizes = [(config.hidden_size, inner), (config.hidden_size, inner), (inner, config.hidden_size)]
            self.names = names.split()
            for name, size in zip(self.names, sizes):
                self.add_module(name, Projection(*size))

        def forward(self, hidden):
            parts = dict(self.named_children())
            a = parts[self.names[0]](hidden)
            b = parts[self.names[1]](hidden)
            if over_tokens:
                b = b.roll(1, dims=1)
            if on in ("gate", "both"):
                a = gate(a)
            if on in ("expand", "both"):
                b = gate(b)
            if join == "gate only":
                c = a
            else:
                c = torch.mul(a, b) if join == "times" else torch.add(a, b)
            if on == "product":
                c = gate(c)
            result = parts[self.names[2]](c)
            if residual:
                result += hidden
            return result

    return GatedFeedForward


class OneMatrixAtATime(nn.Module):
    def __init__(self, config):
        super().__init__()
        inner = int(config.intermediate_size / 1.5 + 0.5)
        self.gate, self.expand = (nn.Linear(config.hidden_size, inner) for _ in range(2))
        self.contract = nn.Linear(inner, config.hidden_size)
        self.bend = nn.GELU()

    def forward(self, hidden):
        rows = [self.contract(self.bend(self.gate(row)) * self.expand(row)) for row in hidden.unbind(1)]
        return torch.stack(rows, dim=1)


GATED = Answers(
    "GatedFeedForward",
    styles={"linear layers": with_linears, "parameters": with_parameters},
    right={"row by row": OneMatrixAtATime},
    wrong={
        "other names": mistake("called gate, expand and contract", names="gate up down"),
        "no biases": mistake("lack their biases", bias=False),
        "GELU on expand": mistake("stands on `expand`", on="expand"),
        "GELU on both": mistake("GELU stands on both", on="both"),
        "no activation": mistake("The gate has no GELU", on="nothing"),
        "sigmoid": mistake("that is GLU", gate=torch.sigmoid),
        "SiLU": mistake("that is SwiGLU", gate=F.silu),
        "ReLU": mistake("that is ReGLU", gate=F.relu),
        "added": mistake("added up", join="plus"),
        "expand not used": mistake("not used at all", join="gate only"),
        "GELU on the product": mistake("GELU is applied to the product", on="product"),
        "residual inside": mistake("residual is the layer's business", residual=True),
        "mixes tokens": mistake("A token on its own", over_tokens=True),
        "inner width I": mistake("must be smaller than I", width="all"),
        "inner width I / 2": mistake("Half of I is too little", width="half"),
        "inner width from H": mistake("take I for 4 H", width="from H"),
    },
    two_at_once=(dict(join="plus", width="all"), "added"),
)


# ---- 6.3: is the road clear? -------------------------------------------------------------------------------


def zeroed(copied=True, mode="train", zero="both", expects="two norms", constant=None, back=True):
    """Silences both sublayers and looks at what is left in training."""

    def road_is_clear(layer):
        if constant is not None:
            return constant
        original = layer
        layer = copy.deepcopy(layer) if copied else layer
        if mode == "train":
            layer.train()
        lasts = {"attention": [layer.attention.output], "feed-forward": [layer.feed_forward.contract]}
        for last in sum(lasts.values(), []) if zero == "both" else lasts.get(zero, []):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        hidden = torch.randn(8, 13, layer.attention.output.in_features)
        if expects == "two norms":
            expected = layer.feed_forward_norm(layer.attention_norm(hidden))
        elif expects == "one plain norm":
            expected = F.layer_norm(hidden, hidden.shape[-1:])
        else:
            expected = original.eval()(hidden)
        answer = torch.allclose(layer(hidden), expected, atol=1e-4)
        if not copied and back:
            layer.eval()
        return answer

    return road_is_clear


def by_counting(copied=True, mode="train", zero="both", expects="two norms", constant=None, back=True):
    """Sends the same row through several times, with the last layers replaced by ones that give zero."""

    class Nothing(nn.Linear):
        def forward(self, x):
            return x.new_zeros(*x.shape[:-1], self.out_features)

    def road_is_clear(layer):
        if constant is not None:
            return int(constant)
        if copied:
            probe = type(layer).__new__(type(layer))
            probe.__dict__ = copy.deepcopy(layer.__dict__)
        else:
            probe = layer
        if mode == "train":
            probe.train(True)
        H = probe.attention.output.in_features
        if zero in ("both", "attention"):
            if copied:
                probe.attention.output = Nothing(H, H)
            else:
                probe.attention.output.weight.data.mul_(0)
                probe.attention.output.bias.data.mul_(0)
        if zero in ("both", "feed-forward"):
            if copied:
                probe.feed_forward.contract = Nothing(probe.feed_forward.contract.in_features, H)
            else:
                probe.feed_forward.contract.weight.data.zero_()
                probe.feed_forward.contract.bias.data.zero_()
        row = torch.linspace(-1, 1, H).repeat(4, 50, 1)
        results = probe(row)
        if expects == "two norms":
            good = (results - results[0, 0]).abs().max() < 1e-4
        elif expects == "one plain norm":
            plain = (row - row.mean(-1, keepdim=True)) / row.std(-1, keepdim=True, unbiased=False)
            good = (results - plain).abs().max() < 1e-3
        else:
            good = bool(torch.isclose(results, copy.deepcopy(layer).train(False)(row)).all())
        if not copied and back:
            probe.train(False)
        return good

    return road_is_clear


def dropout_of_one(layer):
    """With a dropout that drops everything, a clear road still carries the token."""
    layer = copy.deepcopy(layer).train()
    layer.dropout.p = 1.0
    hidden = torch.randn(1, 1, layer.attention.output.in_features)
    expected = layer.feed_forward_norm(layer.attention_norm(hidden))
    return torch.allclose(layer(hidden), expected, atol=1e-5)


class RoadIsClear:
    def __call__(self, layer):
        probe = copy.deepcopy(layer).train()
        with torch.no_grad():
            for part in (probe.attention.output, probe.feed_forward.contract):
                for weight in part.parameters():
                    weight.fill_(0.0)
        hidden = torch.rand(2, 64, probe.attention.output.in_features)
        return bool((probe(hidden) == probe(hidden)).all())


ROAD = Answers(
    "road_is_clear",
    styles={"silenced": zeroed, "one row often": by_counting},
    right={"drop everything": dropout_of_one, "twice the same": RoadIsClear()},
    wrong={
        "always True": mistake("does not find the bug", constant=True),
        "always False": mistake("whichever layer it is given", constant=False),
        "mode as it comes": mistake("comes in evaluation, your check", mode="as it is"),
        "nothing silenced": mistake("set what the sublayers add to zero", zero="none"),
        "only attention silenced": mistake("what the feed-forward network adds", zero="attention"),
        "plain LayerNorm expected": mistake("With trained norms", expects="one plain norm"),
        "left in training": mistake("in another mode", copied=False, back=False),
        "weights left at zero": mistake("weights are not what they were", copied=False),
    },
    two_at_once=(dict(mode="as it is", copied=False, back=False), "mode as it comes"),
)

ANSWERS = (HALF, GATED, ROAD)
