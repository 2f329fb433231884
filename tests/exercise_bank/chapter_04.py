"""Answers to the exercises of chapter 4."""

import math

import torch
from torch import nn

from . import Answers, mistake

HIDE = -10000.0


# ---- 4.1 and 4.3: attention with a mask --------------------------------------------------------------------


def matrices(
    scale="root of D", shares_of="reader", mask="keys", largest="of the row", fill="add", inputs="kept"
):
    """Attention for a whole batch at once."""

    def attention(query, key, value, attention_mask):
        T, D = query.shape[-2:]
        if inputs == "changed":
            query /= math.sqrt(D)
            scores = query @ key.transpose(-2, -1)
        else:
            divisor = {"root of D": math.sqrt(D), "nothing": 1.0, "root of T": math.sqrt(T), "D": D}[scale]
            scores = query @ key.transpose(-2, -1) / divisor  # (B, T, T)
        if shares_of == "swapped":
            scores = scores.transpose(-2, -1)
        shown = attention_mask.float()
        raw = scores
        if mask in ("keys", "inverted", "queries", "both"):
            hidden = {
                "keys": 1 - shown[:, None, :],
                "inverted": shown[:, None, :],
                "queries": 1 - shown[:, :, None],
                "both": 1 - shown[:, None, :] * shown[:, :, None],
            }[mask]
            if fill == "add":
                scores = scores + hidden * HIDE
            else:
                scores = scores.masked_fill(hidden.bool(), {"replace": HIDE, "infinity": -math.inf}[fill])
        elif mask == "multiplied":
            scores = scores * shown[:, None, :]
        top = {
            "of the row": scores.amax(dim=-1, keepdim=True),
            "of all": scores.max(),
            "before the mask": raw.amax(dim=-1, keepdim=True),
            "nothing": 0.0,
        }[largest]
        exps = (scores - top).exp()
        if shares_of == "read":
            exps = (scores - scores.amax(dim=-2, keepdim=True)).exp()
            shares = exps / exps.sum(dim=-2, keepdim=True)
        elif shares_of == "nobody":
            shares = exps
        else:
            shares = exps / exps.sum(dim=-1, keepdim=True)
        if mask == "afterwards":
            shares = shares * shown[:, None, :]
        return shares @ value

    return attention


def loops(
    scale="root of D", shares_of="reader", mask="keys", largest="of the row", fill="add", inputs="kept"
):
    """The same, one number at a time."""

    def attention(query, key, value, attention_mask):
        B, T, D = query.shape
        if inputs == "changed":
            for b in range(B):
                query[b] *= 2
                query[b] *= 0.5 / math.sqrt(D)
        divisor = {"root of D": D**0.5, "nothing": 1.0, "root of T": T**0.5, "D": float(D)}[scale]
        divisor = 1.0 if inputs == "changed" else divisor
        result = torch.zeros(B, T, D)
        for b in range(B):
            scores, shown = torch.zeros(T, T), attention_mask[b].tolist()
            raw = torch.zeros(T, T)
            for i in range(T):
                for j in range(T):
                    one, other = (j, i) if shares_of == "swapped" else (i, j)
                    score = torch.dot(query[b, one], key[b, other]) / divisor
                    raw[i, j] = score
                    hidden = {
                        "keys": not shown[j],
                        "inverted": shown[j],
                        "queries": not shown[i],
                        "both": not (shown[i] and shown[j]),
                    }.get(mask, False)
                    if hidden:
                        score = {"add": score + HIDE, "replace": HIDE, "infinity": -math.inf}[fill]
                    if mask == "multiplied" and not shown[j]:
                        score = 0.0
                    scores[i, j] = score
            for i in range(T):
                row = scores[i]
                if largest == "of the row":
                    row = row - max(row.tolist())
                elif largest == "of all":
                    row = row - max(scores.flatten().tolist())
                elif largest == "before the mask":
                    row = row - max(raw[i].tolist())
                exps = torch.exp(row)
                if shares_of == "reader" or shares_of == "swapped":
                    exps = exps / sum(exps)
                elif shares_of == "read":
                    column_tops = scores.max(dim=0).values
                    exps = torch.exp(scores[i] - column_tops) / torch.exp(scores - column_tops).sum(dim=0)
                for j in range(T):
                    if mask != "afterwards" or shown[j]:
                        result[b, i] += exps[j] * value[b, j]
        return result

    return attention


def with_einsum(query, key, value, attention_mask):
    scores = torch.einsum("btd,bkd->btk", query * query.shape[-1] ** -0.5, key)
    scores = scores + HIDE * (attention_mask == 0)[:, None, :]
    shares = torch.exp(scores - torch.logsumexp(scores, dim=-1, keepdim=True))
    return torch.einsum("btk,bkd->btd", shares, value)


class AsModule(nn.Module):
    def forward(self, query, key, value, attention_mask):
        scores = torch.bmm(query, key.mT) / math.sqrt(query.size(2))
        scores += (1.0 - attention_mask.unsqueeze(1)) * HIDE
        weights = (scores - scores.max(2, True)[0]).exp()
        return torch.bmm(weights, value) / weights.sum(2, keepdim=True)


ATTENTION_MISTAKES = {
    "not scaled": mistake("are not scaled", scale="nothing"),
    "root of T": mistake("the root of T", scale="root of T"),
    "divided by D": mistake("divided by D", scale="D"),
    "padding inverted": mistake("1 means read", mask="inverted"),
    "mask on the queries": mistake("varies along the queries", mask="queries"),
    "mask on both": mistake("Keys and queries are hidden", mask="both"),
    "mask after softmax": mistake("after softmax, and nobody gets it", mask="afterwards"),
    "scores times mask": mistake("multiply the scores by the mask", mask="multiplied"),
    "minus infinity": mistake("minus infinity everywhere is 0 / 0", fill="infinity"),
    "-10000 in place of the score": mistake("in their place", fill="replace"),
    "input changed": mistake("changes its first argument in place", inputs="changed"),
}

STABLE = Answers(
    "stable_attention",
    styles={"matrices": matrices, "loops": loops},
    right={"einsum": with_einsum, "module": AsModule()},
    wrong={
        **ATTENTION_MISTAKES,
        "softmax over the queries": mistake("*receives* sum to 1", shares_of="read"),
        "query and key swapped": mistake("changed places", shares_of="swapped"),
        "shares not divided": mistake("not divided by their sum", shares_of="nobody"),
        "nothing subtracted": mistake("overflow", largest="nothing"),
        "largest of all rows": mistake("largest score of the whole matrix", largest="of all"),
        "largest before the mask": mistake("before the padding is hidden", largest="before the mask"),
    },
    two_at_once=(dict(scale="nothing", mask="inverted"), "not scaled"),
)


def softmax_matrices(scale="root of D", mask="keys", fill="add", inputs="kept"):
    """As in the chapter, with PyTorch's softmax."""

    def attention_mended(query, key, value, attention_mask):
        T, D = query.shape[-2:]
        if inputs == "changed":
            query /= math.sqrt(D)
        divisor = {"root of D": math.sqrt(D), "nothing": 1.0, "root of T": math.sqrt(T), "D": D}[scale]
        scores = query @ key.transpose(-2, -1) / (1.0 if inputs == "changed" else divisor)
        shown = attention_mask.to(scores.dtype)
        hidden = {
            "keys": 1.0 - shown[:, None, :],
            "inverted": shown[:, None, :],
            "queries": 1.0 - shown[:, :, None],
            "both": 1.0 - shown[:, None, :] * shown[:, :, None],
        }.get(mask, torch.zeros(len(shown), 1, T))
        if fill == "add":
            scores = scores + hidden * HIDE
        else:
            scores = torch.where(hidden > 0, {"replace": HIDE, "infinity": -math.inf}[fill], scores)
        if mask == "multiplied":
            scores = scores * shown[:, None, :]
        shares = scores.softmax(dim=-1)
        if mask == "afterwards":
            shares = shares * shown[:, None, :]
        return shares @ value

    return attention_mended


MENDED = Answers(
    "attention_mended",
    styles={"softmax": softmax_matrices, "loops": loops},
    right={"einsum": with_einsum, "module": AsModule()},
    wrong={
        **ATTENTION_MISTAKES,
        "not scaled": mistake("not scaled at all", scale="nothing"),
        "divided by D": mistake("by D, not by its root", scale="D"),
    },
    two_at_once=(dict(scale="root of T", mask="queries"), "root of T"),  # the function as it was
)


# ---- 4.2: a bias for the distance --------------------------------------------------------------------------


def distance_matrix(sign=-1.0, sides="both", growth="steps", values="added", whole=False):
    """All pairs at once."""

    def distance_bias(T, slope):
        position = torch.arange(T)
        steps = (position[:, None] - position[None, :]).float()  # i - j
        if sides == "both":
            steps = steps.abs()
        elif sides == "before":
            steps = steps.clamp(min=0)
        elif sides == "after":
            steps = (-steps).clamp(min=0)
        elif sides == "signed":
            steps = -steps
        if growth == "square":
            steps = steps**2
        elif growth == "once":
            steps = (steps != 0).float()
        elif growth == "logarithm":
            steps = torch.log2(1 + steps)
        bias = sign * (round(slope) if whole else slope) * steps
        if values == "factors":
            bias = bias.exp()
        if sides == "left to right":
            bias = -slope * steps.abs() + torch.triu(torch.full((T, T), -math.inf), 1).T
        return bias

    return distance_bias


def distance_loop(sign=-1.0, sides="both", growth="steps", values="added", whole=False):
    """One pair at a time."""

    def distance_bias(T, slope):
        rows = []
        for i in range(T):
            row = []
            for j in range(T):
                steps = {"both": abs(i - j), "before": max(i - j, 0), "after": max(j - i, 0)}.get(
                    sides, j - i
                )
                if growth == "square":
                    steps = steps * steps
                elif growth == "once":
                    steps = 1 if steps else 0
                elif growth == "logarithm":
                    steps = math.log2(1 + steps)
                entry = sign * (round(slope) if whole else slope) * steps
                if values == "factors":
                    entry = math.exp(entry)
                if sides == "left to right":
                    entry = -math.inf if j < i else -slope * abs(i - j)
                row.append(float(entry))
            rows.append(row)
        return torch.tensor(rows)

    return distance_bias


def distance_toeplitz(T, slope):
    """Each row is a window of one long row; and a constant for the row, which changes no share."""
    line = -slope * torch.arange(1 - T, T).abs().to(torch.float64)  # (2T - 1,)
    rows = torch.stack([line[T - 1 - i : 2 * T - 1 - i] for i in range(T)])
    return rows + torch.arange(T)[:, None]


class DistanceBias(nn.Module):
    def forward(self, T, slope):
        ones = torch.ones(T, T)
        return -slope * (ones.triu(1).cumsum(1) + ones.tril(-1).flip(1).cumsum(1).flip(1))


DISTANCE = Answers(
    "distance_bias",
    styles={"matrix": distance_matrix, "loop": distance_loop},
    right={"windows": distance_toeplitz, "module": DistanceBias()},
    wrong={
        "gains with distance": mistake("a token gains with distance", sign=1.0),
        "factors, not logarithms": mistake("holds the factors themselves", values="factors"),
        "distance with a sign": mistake("The token before *gains*", sides="signed"),
        "one side only, after": mistake("only one side of your matrix is filled", sides="after"),
        "one side only, before": mistake("one side of the matrix has no slope", sides="before"),
        "hides the tokens before": mistake("hidden altogether", sides="left to right"),
        "square of the distance": mistake("square of the distance", growth="square"),
        "logarithm of the distance": mistake("logarithm of the distance", growth="logarithm"),
        "all others alike": mistake("near and far", growth="once"),
    },
    two_at_once=(dict(sign=1.0, growth="square"), "gains with distance"),
)

ANSWERS = (STABLE, DISTANCE, MENDED)
