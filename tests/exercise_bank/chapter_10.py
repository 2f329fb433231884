"""Answers to the exercises of chapter 10."""

import math

import torch
from torch import nn

from bert_edu.data.pretraining import Pair

from . import Answers, mistake

# ---- 10.1: the loss from bare weights ----------------------------------------------------------------------


def gathered(
    base="e",
    sign=1.0,
    over="scored words",
    word_bias=True,
    normalised=True,
    unscored=False,
    bend="gelu",
    late=False,
    norm="whole",
    variance=0,
    eps_in="root",
    dense="as stored",
    dense_bias=True,
    by_hand=False,
    first=True,
    empty="0",
):
    """Picks the scored positions, then does all at once."""

    def bare_loss(hidden, labels, weights, table, eps=1e-12):
        B, T = labels.shape
        scored = labels != -100
        if unscored:
            scored = torch.ones_like(scored)
        inner = hidden[scored] if first else hidden.reshape(B * T, -1)
        words = labels[scored]
        if dense != "missing":
            matrix = weights["dense.weight"]
            inner = inner @ (matrix if dense == "turned" else matrix.T)
            inner = inner + (weights["dense.bias"] if dense_bias else 0)

        def bent(x):
            if bend == "gelu":
                return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
            if bend == "tanh":
                return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
            return x.clamp(min=0) if bend == "relu" else x

        def normed(x):
            if norm == "missing":
                return x
            centred = x - x.mean(-1, keepdim=True)
            spread = (centred**2).sum(-1, keepdim=True) / (x.shape[-1] - variance)
            small = 0.0 if eps_in == "nowhere" else eps
            root = spread.sqrt() + small if eps_in == "sd" else (spread + small).sqrt()
            guess = centred / root
            if norm in ("whole", "no bias"):
                guess = guess * weights["norm.weight"]
            return guess + (weights["norm.bias"] if norm in ("whole", "no weight") else 0)

        if dense == "missing":
            guess = normed(inner)
        else:
            guess = bent(normed(inner)) if late else normed(bent(inner))
        scores = guess @ table.T + (weights["bias"] if word_bias else 0)  # (N, V)
        if not first:
            scores = scores[scored.flatten()]
        right = scores[torch.arange(len(scores)), words]
        total = scores.exp().sum(-1).log() if by_hand else scores.logsumexp(-1)
        surprise = total - right if normalised is True else -right
        if normalised == "1 - p":
            surprise = 1 - (right - total).exp()
        surprise = sign * surprise / (math.log(2) if base == 2 else 1)
        N = len(words) if empty == "NaN" else max(len(words), 1)
        if over == "rows":
            return surprise.sum() / B
        if over == "positions":
            return surprise.sum() / (B * T)
        if over == "nothing":
            return surprise.sum()
        if over == "means of rows":
            row = scored.nonzero()[:, 0]
            means = [surprise[row == b].mean() for b in range(B) if (row == b).any()]
            return sum(means) / len(means) if means else hidden.sum() * 0
        return surprise.sum() / N

    return bare_loss


def word_by_word(
    base="e",
    sign=1.0,
    over="scored words",
    word_bias=True,
    normalised=True,
    unscored=False,
    bend="gelu",
    late=False,
    norm="whole",
    variance=0,
    eps_in="root",
    dense="as stored",
    dense_bias=True,
    by_hand=False,
    first=True,
    empty="0",
):
    """One position after the other."""

    def bare_loss(hidden, labels, weights, table, eps=1e-12):
        B, T, H = hidden.shape
        losses = [[] for _ in range(B)]

        def layer_norm(x):
            if norm == "missing":
                return x
            mean = sum(x) / H
            spread = sum((x - mean) ** 2) / (H - variance)
            if eps_in == "sd":
                x = (x - mean) / (spread**0.5 + eps)
            else:
                x = (x - mean) / torch.sqrt(spread + (0.0 if eps_in == "nowhere" else eps))
            if norm != "no weight" and norm != "plain":
                x = weights["norm.weight"] * x
            return x if norm in ("no bias", "plain") else x + weights["norm.bias"]

        def activate(x):
            if bend == "none":
                return x
            if bend == "relu":
                return torch.where(x > 0, x, 0 * x)
            if bend == "tanh":
                return x / (1 + torch.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
            return x * (torch.erf(x * 2**-0.5) + 1) / 2

        for b in range(B):
            for t in range(T):
                word = int(labels[b, t])
                if word == -100 and not unscored and first:
                    continue
                vector = hidden[b, t]
                if dense != "missing":
                    matrix = weights["dense.weight"].T if dense == "turned" else weights["dense.weight"]
                    vector = matrix @ vector
                    if dense_bias:
                        vector = vector + weights["dense.bias"]
                    vector = activate(layer_norm(vector)) if late else layer_norm(activate(vector))
                else:
                    vector = layer_norm(vector)
                scores = table @ vector
                if word_bias:
                    scores = scores + weights["bias"]
                if word == -100 and not unscored:
                    continue
                if normalised is True:
                    if by_hand:
                        p = torch.exp(scores[word]) / sum(torch.exp(scores))
                        one = -torch.log(p)
                    else:
                        one = torch.logsumexp(scores, 0) - scores[word]
                elif normalised == "1 - p":
                    one = 1 - torch.exp(scores[word] - torch.logsumexp(scores, 0))
                else:
                    one = -scores[word]
                losses[b].append(sign * one * (1.4426950408889634 if base == 2 else 1.0))
        flat = [one for row in losses for one in row]
        if over == "means of rows":
            flat = [sum(row) / len(row) for row in losses if row]
        total = sum(flat, torch.zeros((), dtype=hidden.dtype))
        if over == "nothing":
            return total
        below = {"rows": B, "positions": B * T}.get(over, len(flat))
        return total / (below if below or empty == "NaN" else 1)

    return bare_loss


class BareLoss(nn.Module):
    """With `einsum`, and weighted by a mask of those that were picked."""

    def forward(self, hidden, labels, weights, table, eps=1e-12):
        b, t = torch.nonzero(labels != -100, as_tuple=True)
        inner = torch.einsum("nh,oh->no", hidden[b, t], weights["dense.weight"]) + weights["dense.bias"]
        inner = inner * torch.distributions.Normal(0.0, 1.0).cdf(inner)  # that is erf
        mean, variance = inner.mean(1, True), inner.var(1, unbiased=False, keepdim=True)
        guess = torch.addcmul(
            weights["norm.bias"], (inner - mean) * torch.rsqrt(variance + eps), weights["norm.weight"]
        )
        scores = torch.addmm(weights["bias"], guess, table.mT)
        scores = scores - scores.amax(1, keepdim=True) if len(b) else scores
        log_p = scores - scores.exp().sum(1, keepdim=True).log()
        return -log_p.gather(1, labels[b, t][:, None]).sum() / max(1, len(b))


BARE = Answers(
    "bare_loss",
    styles={"gathered": gathered, "word by word": word_by_word},
    right={"module": BareLoss()},
    wrong={
        "bits": mistake("the surprise in bits", base=2),
        "sign": mistake("The sign is wrong", sign=-1.0),
        "all positions below": mistake("One position is scored and eleven", over="positions"),
        "no bias of the words": mistake("one number for each word, is missing", word_bias=False),
        "minus the score": mistake("minus the score of the right word", normalised=False),
        "1 - p": mistake("You return 1 - p", normalised="1 - p"),
        "sum": mistake("You return the sum", over="nothing"),
        "mean of means": mistake("the mean of each row", over="means of rows"),
        "rows below": mistake("by the number of rows", over="rows"),
        "NaN for nothing": mistake("an unlucky batch", empty="NaN"),
        "no bend": mistake("There is no bend", bend="none"),
        "GELU by tanh": mistake("the tanh form", bend="tanh"),
        "ReLU": mistake("The bend is ReLU", bend="relu"),
        "norm before GELU": mistake("LayerNorm comes before GELU", late=True),
        "no LayerNorm": mistake("LayerNorm is missing.", norm="missing"),
        "plain LayerNorm": mistake("own two vectors are missing", norm="plain"),
        "LayerNorm without bias": mistake("plus `norm.bias`", norm="no bias"),
        "LayerNorm without weight": mistake("times `norm.weight`", norm="no weight"),
        "variance of a sample": mistake("H - 1 below", variance=1),
        "dense turned": mistake("The dense matrix is the wrong way round", dense="turned"),
        "dense without bias": mistake("The bias of the dense layer", dense_bias=False),
        "no dense": mistake("go straight into LayerNorm", dense="missing"),
        "eps outside": mistake("outside the root", eps_in="sd"),
        "no eps": mistake("that is what eps is for", eps_in="nowhere"),
        "exp by hand": mistake("exp of them overflows", by_hand=True),
        "all through the table": mistake("went through the table", first=False),
    },
    two_at_once=(dict(over="nothing", bend="relu"), "sum"),
)


# ---- 10.2: which came first? -------------------------------------------------------------------------------


def new_pairs(
    keeps="those that follow",
    labels="order",
    coin="each",
    chance="generator",
    share=0.5,
    twice=False,
    tokens="as they are",
    in_place=False,
    order="as it was",
    swap=True,
):
    """A list of new pairs."""

    def sentence_order(pairs, generator):
        made = []
        if chance != "generator":
            generator = None
        common = bool(torch.rand((), generator=generator) < 0.5)
        for number, pair in enumerate(pairs):
            label = pair.next_sentence_label
            if (keeps == "those that follow" and label == 1) or (keeps == "random" and label == 0):
                continue
            swapped = bool(torch.rand((), generator=generator) < share)
            if coin == "one":
                swapped = common
            elif coin == "every second":
                swapped = number % 2 == int(common)
            first, second = pair.first, pair.second
            if tokens == "reversed":
                first, second = first[::-1], second[::-1]
            if swapped and swap:
                first, second = second, first
            new = {"order": int(swapped), "inverted": int(not swapped), "old": label}[labels]
            if in_place:
                pair.first, pair.second, pair.next_sentence_label = first, second, new
                made.append(pair)
            else:
                made.append(Pair(first, second, new))
            if twice:
                made.append(Pair(second, first, 1 - new))
        if order == "swapped last":
            made.sort(key=lambda pair: pair.next_sentence_label)
        return made

    return sentence_order


def all_coins_first(
    keeps="those that follow",
    labels="order",
    coin="each",
    chance="generator",
    share=0.5,
    twice=False,
    tokens="as they are",
    in_place=False,
    order="as it was",
    swap=True,
):
    """All coins in one draw, and the parts in a list of two."""

    def sentence_order(pairs, generator):
        wanted = {"those that follow": (0,), "random": (1,), "all": (0, 1)}[keeps]
        kept = [pair for pair in pairs if pair.next_sentence_label in wanted]
        if chance == "generator":
            coins = torch.rand(len(kept) + 1, generator=generator) < share
        else:
            coins = torch.rand(len(kept) + 1) < share
        if coin == "one":
            coins = coins[:1].expand(len(kept) + 1)
        elif coin == "every second":
            coins = (torch.arange(len(kept) + 1) + coins[:1]) % 2 == 0
        result = []
        for pair, flag in zip(kept, coins.tolist()):
            parts = [pair.first, pair.second]
            if flag and swap:
                parts.reverse()
            if tokens == "reversed":
                parts = [list(reversed(part)) for part in parts]
            label = int(flag) if labels == "order" else 1 - flag
            if labels == "old":
                label = pair.next_sentence_label
            one = pair if in_place else Pair([], [], 0)
            one.first, one.second = parts
            one.next_sentence_label = int(label)
            result.append(one)
            if twice:
                result.append(Pair(parts[1], parts[0], 1 - int(label)))
        if order == "swapped last":
            straight = [pair for pair in result if not pair.next_sentence_label]
            return straight + [pair for pair in result if pair.next_sentence_label]
        return result

    return sentence_order


class Orders:
    """A generator, with whole numbers for coins."""

    def __call__(self, pairs, generator):
        for pair in filter(lambda pair: not pair.next_sentence_label, pairs):
            coin = torch.randint(0, 2, (1,), generator=generator).item()
            parts = (pair.first, pair.second)
            yield Pair(first=parts[coin], second=parts[1 - coin], next_sentence_label=coin)


ORDER = Answers(
    "sentence_order",
    styles={"new pairs": new_pairs, "all coins first": all_coins_first},
    right={"generator": Orders()},
    wrong={
        "in another order": mistake("leave the pairs in line", order="swapped last"),
        "both orders": mistake("Some pairs come out twice", twice=True),
        "tokens reversed": mistake("within a part", tokens="reversed"),
        "random ones too": mistake("Pairs with label 1 come out too", keeps="all"),
        "old labels": mistake("keeps its old label", labels="old"),
        "inverted": mistake("The labels are inverted", labels="inverted"),
        "nothing swapped": mistake("no parts are swapped", swap=False),
        "always swapped": mistake("All pairs are swapped", share=2.0),
        "never": mistake("none is swapped", share=-1.0),
        "a third": mistake("with a fair coin", share=0.3),
        "every second": mistake("but not by chance", coin="every second"),
        "other chance": mistake("Another seed swaps the same pairs", chance="global"),
        "in place": mistake("you swap them in place", in_place=True),
    },
    two_at_once=(dict(labels="inverted", in_place=True), "inverted"),
)


# ---- 10.3: is it tied? -------------------------------------------------------------------------------------


def by_a_row(
    looks="score", noise="random", vector="random", back="copy", tells="as it is", word=7, grad="off"
):
    """Changes a word's row and scores again."""

    def is_tied(bert, head):
        parameter = bert.embeddings.token.weight
        H = parameter.shape[1]
        if tells == "always":
            return True
        if looks == "names":
            return getattr(getattr(head, "decoder", None), "weight", None) is parameter
        if looks == "numbers":
            return any(
                weight.shape == parameter.shape and torch.equal(weight, parameter)
                for weight in head.parameters()
            )
        table = parameter.data
        hidden = torch.randn(4, H) if vector == "random" else torch.zeros(4, H)
        with torch.no_grad():
            kept, before = table[word].clone(), head(hidden)
            step = torch.randn(H) if noise == "random" else torch.full((H,), 0.5)
            table[word] += step
            after = head(hidden)
            if back == "copy":
                table[word] = kept
            elif back == "taken away":
                table[word] -= step
        if grad == "switched off":
            parameter.requires_grad_(False)
        moved = (after - before).abs().amax(0) > 1e-6  # (V,)
        answer = bool(moved.any()) if looks == "any score" else bool(moved[word])
        return not answer if tells == "the opposite" else answer

    return is_tied


def by_all_rows(
    looks="score", noise="random", vector="random", back="copy", tells="as it is", word=7, grad="off"
):
    """Changes all rows, each by other numbers, and expects of each score what its own row says."""

    def is_tied(bert, head):
        table = bert.get_submodule("embeddings.token").weight
        if tells == "always":
            return bool(len(table))
        if looks == "names":
            return any(parameter is table for parameter in head.parameters())
        if looks == "numbers":
            return any(
                (one - table).abs().max() < 1e-6 for one in head.parameters() if one.shape == table.shape
            )
        V, H = table.shape
        answers, whole = [], table.detach().clone()
        probe = torch.randn(1, 3, H) * (1.0 if vector == "random" else 0.0)
        words = range(V) if looks == "any score" else (0, word, V - 1)
        for one in words:
            score = head(probe)[..., one].detach().clone() if looks != "any score" else head(probe).detach()
            change = torch.ones(H) if noise != "random" else torch.linspace(-3.0, 7.0, H) ** 2
            change = change / 3
            with torch.no_grad():
                table[one] = table[one] + change
                again = head(probe).detach()
                again = again if looks == "any score" else again[..., one]
                if back == "copy":
                    table.copy_(whole)
                elif back == "taken away":
                    table[one] = table[one] - change
            answers.append(not torch.allclose(score, again, atol=1e-6))
        table.requires_grad_(grad == "off")
        return not all(answers) if tells == "the opposite" else all(answers)

    return is_tied


def by_the_gradient(bert, head):
    """The gradient of a word's score reaches the word's row."""
    table = bert.embeddings.token.weight
    hidden = torch.randn(2, table.shape[1])
    (found,) = torch.autograd.grad(head(hidden)[:, 5].sum(), table, allow_unused=True)
    return found is not None and bool(found[5].abs().sum() > 0)


class IsTied(nn.Module):
    """Puts a row to sleep and looks for its word."""

    @torch.no_grad()
    def forward(self, bert, head):
        table = bert.embeddings.token.weight
        before = table.detach().clone()
        hidden = torch.randn(6, table.shape[1])
        plain = head(hidden)
        table[11] = -3 * table[11].flip(0) + torch.randn(table.shape[1])
        moved = head(hidden) != plain
        table.copy_(before)
        return moved[:, 11].any() & (moved.any(0).sum() == 1)


TIED = Answers(
    "is_tied",
    styles={"a row": by_a_row, "all rows": by_all_rows},
    right={"by the gradient": by_the_gradient, "module": IsTied()},
    wrong={
        "the opposite": mistake("True and False have changed places", tells="the opposite"),
        "the same number": mistake("The mended head's decoder *is* the table", noise="constant"),
        "always": mistake("and you say True. The copy", tells="always"),
        "by identity": mistake("not in whose parameter it is", looks="names"),
        "vectors of zeros": mistake("From a vector of zeros", vector="zeros"),
        "any score": mistake("look at the word's own score", looks="any score"),
        "not put back": mistake("put the copy of the row back", back="never"),
        "taken away again": mistake("a rounding error", back="taken away"),
        "gradients switched off": mistake("no longer does", grad="switched off"),
    },
    two_at_once=(dict(noise="constant", back="never"), "the same number"),
)

ANSWERS = (BARE, ORDER, TIED)
