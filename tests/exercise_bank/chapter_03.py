"""Answers to the exercises of chapter 3."""

import math

import torch
from torch import nn

from . import Answers, mistake

# ---- 3.1: the look-up backwards ----------------------------------------------------------------------------


def one_hot(repeats="sum", across="sum", sequences="all", rows="all", sign=1.0, divided=None, inputs="kept"):
    """With the one-hot matrix of all places."""

    def look_up_gradient(ids, upstream, vocab_size):
        B, T = ids.shape
        if inputs == "changed":
            upstream *= 2.0
            upstream = upstream / 2.0
        if rows == "up to the largest id":
            vocab_size = int(ids.max()) + 1
        if sequences == "first":
            ids, upstream = ids[:1], upstream[:1]
        if across != "sum":
            total = torch.zeros(vocab_size, upstream.shape[-1])
            for b in range(B):
                mine = (ids[b] == torch.arange(vocab_size)[:, None]).float() @ upstream[b]
                if across == "overwritten":
                    total[ids[b]] = mine[ids[b]]
                else:
                    total += mine / B
            return total
        hot = (ids.flatten() == torch.arange(vocab_size)[:, None]).float()  # (V, B T)
        gradient = hot @ upstream.flatten(0, 1)
        if repeats == "mean":
            gradient = gradient / hot.sum(dim=1, keepdim=True).clamp(min=1)
        if repeats in ("last", "first"):
            gradient = torch.zeros_like(gradient)
            order = range(len(ids.flatten()))
            for place in order if repeats == "last" else reversed(order):
                gradient[ids.flatten()[place]] = upstream.flatten(0, 1)[place]
        if divided == "tokens":
            gradient = gradient / (B * T)
        return sign * gradient

    return look_up_gradient


def place_by_place(
    repeats="sum", across="sum", sequences="all", rows="all", sign=1.0, divided=None, inputs="kept"
):
    """A loop over all places."""

    def look_up_gradient(ids, upstream, vocab_size):
        if rows == "up to the largest id":
            vocab_size = max(ids.flatten().tolist()) + 1
        gradient, seen = [[0.0] * upstream.size(2) for _ in range(vocab_size)], [0] * vocab_size
        for b, row in enumerate(ids.tolist()):
            if sequences == "first" and b:
                break
            mine = {}
            for t, token in enumerate(row):
                vector = [sign * number for number in upstream[b, t].tolist()]
                seen[token] += 1
                if across == "overwritten":
                    mine[token] = [x + y for x, y in zip(mine.get(token, [0.0] * len(vector)), vector)]
                elif repeats == "last" or (repeats == "first" and seen[token] == 1):
                    gradient[token] = vector
                elif repeats in ("sum", "mean"):
                    gradient[token] = [x + y for x, y in zip(gradient[token], vector)]
            for token, vector in mine.items():
                gradient[token] = vector
        if inputs == "changed":
            ids[0, 0] = 0
        result = torch.tensor(gradient)
        if repeats == "mean":
            result = result / torch.tensor([max(count, 1) for count in seen])[:, None]
        if divided == "tokens":
            result = result / ids.numel()
        if across == "mean":
            result = result / len(ids)
        return result

    return look_up_gradient


def with_index_add(ids, upstream, vocab_size):
    table = upstream.new_zeros(vocab_size, upstream.shape[-1])
    return table.index_add(0, ids.reshape(-1), upstream.reshape(-1, upstream.shape[-1]))


class LookUpGradient(nn.Module):
    def forward(self, ids, upstream, vocab_size):
        hot = nn.functional.one_hot(ids, vocab_size).to(upstream.dtype)
        return torch.einsum("btv,bth->vh", hot, upstream)


GRADIENT = Answers(
    "look_up_gradient",
    styles={"one-hot": one_hot, "loop": place_by_place},
    right={"index_add": with_index_add, "module": LookUpGradient()},
    wrong={
        "rows end with the largest id": mistake("has `vocab_size` rows", rows="up to the largest id"),
        "sign": mistake("The sign is the wrong way round", sign=-1.0),
        "first sequence only": mistake("Only the first sequence of the batch", sequences="first"),
        "divided by the tokens": mistake("divided by the number of tokens", divided="tokens"),
        "last one survives": mistake("has only the last vector", repeats="last"),
        "first one survives": mistake("has only the first vector", repeats="first"),
        "mean of repeats": mistake("has the mean of both", repeats="mean"),
        "later sequences overwrite": mistake("a later sequence overwrites", across="overwritten"),
        "divided by the sequences": mistake("divided by the number of sequences", across="mean"),
        "input changed": mistake("argument in place", inputs="changed"),
    },
    two_at_once=(dict(repeats="last", sign=-1.0), "sign"),
)


# ---- 3.2: turn the vector ----------------------------------------------------------------------------------


def with_slices(sign=1.0, pairs="neighbours", speed="2i / H", places="given", first=0, how="turned",
                order="back", old=True, inputs="kept"):  # fmt: skip
    """As in the chapter."""

    def rotate(vectors, positions):
        T, H = vectors.shape
        p = (torch.arange(T) if places == "counted" else positions) + first
        i = torch.arange(H // 2)
        power = {"2i / H": -2 * i / H, "i / H": -i / H, "none": 0.0 * i, "plus": 2 * i / H}[speed]
        angle = sign * p[:, None] * 10000.0**power
        if how == "added":
            return vectors + torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        if inputs == "changed":
            vectors[:, 0] += 1.0
            vectors = vectors.clone()
            vectors[:, 0] -= 1.0
        if pairs == "halves":
            x, y = vectors[:, : H // 2], vectors[:, H // 2 :]
        else:
            x, y = vectors[:, 0::2], vectors[:, 1::2]
        new_x = x * angle.cos() - y * angle.sin()
        new_y = (x if old else new_x) * angle.sin() + y * angle.cos()
        if order == "swapped":
            new_x, new_y = new_y, new_x
        if pairs == "halves" or order == "even first":
            return torch.cat([new_x, new_y], dim=1)
        return torch.stack([new_x, new_y], dim=-1).flatten(1)

    return rotate


def number_by_number(sign=1.0, pairs="neighbours", speed="2i / H", places="given", first=0, how="turned",
                     order="back", old=True, inputs="kept"):  # fmt: skip
    """One pair of numbers at a time."""

    def rotate(vectors, positions):
        T, H = vectors.shape
        result = [[0.0] * H for _ in range(T)]
        for t in range(T):
            p = (t if places == "counted" else int(positions[t])) + first
            for i in range(H // 2):
                speeds = {"2i / H": -2 * i / H, "i / H": -i / H, "none": 0, "plus": 2 * i / H}
                angle = sign * p * 10000 ** speeds[speed]
                a, b = (i, i + H // 2) if pairs == "halves" else (2 * i, 2 * i + 1)
                x, y = vectors[t, a].item(), vectors[t, b].item()
                if how == "added":
                    result[t][a], result[t][b] = x + math.sin(angle), y + math.cos(angle)
                    continue
                new_x = x * math.cos(angle) - y * math.sin(angle)
                new_y = (x if old else new_x) * math.sin(angle) + y * math.cos(angle)
                if order == "swapped":
                    new_x, new_y = new_y, new_x
                if order == "even first":
                    a, b = i, i + H // 2
                result[t][a], result[t][b] = new_x, new_y
        if inputs == "changed":
            positions += 1
        return torch.tensor(result)

    return rotate


def with_complex(vectors, positions):
    """A pair is a complex number, and a turn a product."""
    H = vectors.shape[-1]
    angle = positions[:, None] * torch.exp(-torch.arange(0, H, 2) / H * math.log(10000.0))
    pairs = torch.view_as_complex(vectors.reshape(len(vectors), -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(1)


class Rotate(nn.Module):
    def forward(self, vectors, positions):
        rows = []
        for vector, p in zip(vectors, positions.tolist()):
            H = len(vector)
            blocks = []
            for i in range(H // 2):
                a = torch.tensor(p / 10000 ** (2 * i / H))
                blocks.append(
                    torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
                )
            rows.append(torch.block_diag(*blocks) @ vector)
        return torch.stack(rows)


ROTATE = Answers(
    "rotate",
    styles={"slices": with_slices, "numbers": number_by_number},
    right={"complex": with_complex, "matrices": Rotate()},
    wrong={
        "even components first": mistake("all even ones first", order="even first"),
        "sinusoids added": mistake("position vector is added", how="added"),
        "positions from 1": mistake("at position 0: the first position is 0", first=1),
        "new x used for y": mistake("the *old* x and y", old=False),
        "the other way round": mistake("You turn the other way round", sign=-1.0),
        "halves paired": mistake("paired with component i + H / 2", pairs="halves"),
        "one speed for all": mistake("turn by the same angle", speed="none"),
        "half the power": mistake("fall too slowly", speed="i / H"),
        "speeds that grow": mistake("The speeds grow", speed="plus"),
        "positions counted": mistake("You count the vectors", places="counted"),
        "input changed": mistake("argument in place", inputs="changed"),
    },
    two_at_once=(dict(sign=-1.0, pairs="halves"), "the other way round"),
)


# ---- 3.3: a test for order ---------------------------------------------------------------------------------


def compared(tokens="same", segments="same", places="all", batch=1, by="numbers", constant=None):
    """Compares the vectors of the same token at four places."""

    def knows_order(layer):
        if constant is not None:
            return constant
        ids = torch.full((batch, 5), 3) if tokens == "same" else torch.arange(5).expand(batch, 5)
        types = torch.zeros_like(ids) if segments == "same" else torch.tensor([[0, 1, 0, 1, 0]] * batch)
        rows = layer(ids, types)[0]
        if by == "sums":
            rows = rows.sum(dim=-1, keepdim=True)
        pairs = {
            "all": [(p, q) for p in range(5) for q in range(p)],
            "two": [(0, 1)],
            "neighbours": [(p, p + 1) for p in range(4)],
        }[places]
        return all(not torch.allclose(rows[p], rows[q], atol=1e-5) for p, q in pairs)

    return knows_order


def counted(tokens="same", segments="same", places="all", batch=1, by="numbers", constant=None):
    """Counts how many different vectors there are."""

    def knows_order(layer):
        if constant is not None:
            return torch.tensor(constant)
        ids = (
            torch.tensor([[2, 2, 2, 2]] * batch) if tokens == "same" else torch.tensor([[1, 2, 4, 5]] * batch)
        )
        types = torch.ones(batch, 4, dtype=torch.long)
        if segments != "same":
            types[:, ::2] = 0
        if segments != "same" and places == "all":
            places_seen = [0, 1]
        else:
            places_seen = {"all": [0, 1, 2, 3], "two": [0, 1], "neighbours": [0, 1, 2, 3]}[places]
        vectors = layer(ids, types)[0].detach()
        if by == "sums":
            vectors = vectors.sum(-1, keepdim=True)
        rounded = [tuple(round(number, 3) for number in vectors[place].tolist()) for place in places_seen]
        if places == "neighbours":
            return not any(one == other for one, other in zip(rounded, rounded[1:]))
        if by == "sums":
            return len({abs(row[0]) for row in rounded}) == len(rounded)
        return len(set(rounded)) == len(rounded)

    return knows_order


def by_shuffling(layer):
    """If order did not matter, the mean over all positions of one token would be each vector."""
    ids = torch.zeros(1, 8, dtype=torch.long)
    with torch.no_grad():
        rows = layer(ids, ids)[0]
    distances = torch.cdist(rows, rows) + torch.eye(8)
    return bool(distances.min() > 1e-3)


class KnowsOrder(nn.Module):
    def forward(self, layer):
        ids = torch.tensor([[4] * 6])
        rows = layer(ids, torch.zeros_like(ids)).squeeze(0)
        return torch.unique(rows.detach().mul(1e4).round(), dim=0).shape[0] == 6


ORDER = Answers(
    "knows_order",
    styles={"compared": compared, "counted": counted},
    right={"distances": by_shuffling, "module": KnowsOrder()},
    wrong={
        "always True": mistake("With one sequence all its tokens get position 0", constant=True),
        "always False": mistake("and it does: the same token", constant=False),
        "different tokens": mistake("you give it different tokens", tokens="different"),
        "different segments": mistake("you give it different segments", segments="different", places="two"),
        "sums compared": mistake("compare the vectors number by number", by="sums"),
        "two sequences": mistake("a batch of 2 sequences", batch=2),
        "two places only": mistake("more than the first two places", places="two"),
        "neighbours only": mistake("not only with its neighbour", places="neighbours"),
    },
    two_at_once=(dict(batch=2, places="two"), "two sequences"),
)

ANSWERS = (GRADIENT, ROTATE, ORDER)
