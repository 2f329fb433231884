"""Answers to the exercises of chapter 5."""

import math

import torch
from torch import nn

from . import Answers, mistake

HIDE = -10000.0


# ---- 5.1: multi-head attention from its weights ------------------------------------------------------------


def with_views(
    scale="D",
    layout="part, head, component",
    columns="head, component",
    parts="qkv",
    offsets=True,
    output_offset=True,
    transposed=False,
    softmax="keys",
    swapped=False,
    bias_where="scores",
    single=False,
    inputs="kept",
):
    """As in the chapter: weights with an axis of heads, and einsum."""

    def multi_head(hidden, state, num_heads, bias=None):
        if inputs == "changed":
            hidden -= hidden.new_zeros(1) + 1
            hidden += 2
            hidden = hidden - 1
            state["output.bias"] *= 1
        B, T, H = hidden.shape
        A, D = num_heads, H // num_heads
        weight, offset = state["query_key_value.weight"], state["query_key_value.bias"]
        if layout == "part, head, component":
            weight, offset = weight.view(3, A, D, H), offset.view(3, A, D)
        elif layout == "head, part, component":
            weight, offset = weight.view(A, 3, D, H).transpose(0, 1), offset.view(A, 3, D).transpose(0, 1)
        else:
            weight, offset = weight.view(3, D, A, H).transpose(1, 2), offset.view(3, D, A).transpose(1, 2)
        if single:
            hidden, weight, offset = hidden.float(), weight.float(), offset.float()
        made = torch.einsum("bth,sadh->sbatd", hidden, weight)
        if offsets:
            made = made + offset[:, None, :, None]
        query, key, value = (made["qkv".index(part)] for part in parts)
        if swapped:
            query, key = key, query
        divisor = {"D": math.sqrt(D), "H": math.sqrt(H), "T": math.sqrt(T), "nothing": 1.0}[scale]
        scores = torch.einsum("batd,bakd->batk", query, key)
        if bias is not None and bias_where == "before scaling":
            scores = scores + bias
        scores = scores / divisor
        if bias is not None and bias_where == "scores":
            scores = scores + bias
        shares = scores.softmax(dim={"keys": -1, "queries": -2, "heads": 1}[softmax])
        if bias is not None and bias_where == "shares":
            shares = shares + bias
        context = torch.einsum("batk,bakd->batd", shares, value.to(shares.dtype))
        output = state["output.weight"].T if transposed else state["output.weight"]
        if columns == "head, component":
            output = output.reshape(H, A, D)
        else:
            output = output.reshape(H, D, A).transpose(1, 2)
        result = torch.einsum("batd,oad->bto", context, output.to(context.dtype))
        return (result + state["output.bias"] if output_offset else result).double()

    return multi_head


def head_by_head(
    scale="D",
    layout="part, head, component",
    columns="head, component",
    parts="qkv",
    offsets=True,
    output_offset=True,
    transposed=False,
    softmax="keys",
    swapped=False,
    bias_where="scores",
    single=False,
    inputs="kept",
):
    """One head after the other, each with its own rows and columns."""

    def multi_head(hidden, state, num_heads, bias=None):
        H = hidden.size(-1)
        D = H // num_heads
        if inputs == "changed":
            state["query_key_value.weight"][: H // 2] += 0.25
            state["query_key_value.weight"][: H // 2] -= 0.25
            hidden[0, 0, 0] = hidden[0, 0, 0] + 1
            hidden = hidden.clone()
            hidden[0, 0, 0] -= 1
        if single:
            hidden = hidden.to(torch.float32).to(torch.float64)
        all_scores, values, places = [], [], []
        for head in range(num_heads):
            rows = {}
            for number, part in enumerate("qkv"):
                if layout == "part, head, component":
                    rows[part] = [number * H + head * D + d for d in range(D)]
                elif layout == "head, part, component":
                    rows[part] = [head * 3 * D + number * D + d for d in range(D)]
                else:
                    rows[part] = [number * H + d * num_heads + head for d in range(D)]
            made = []
            for part in parts:
                projected = hidden @ state["query_key_value.weight"][rows[part]].t()
                if offsets:
                    projected = projected + state["query_key_value.bias"][rows[part]]
                made.append(projected)
            query, key, value = made
            if swapped:
                scores = torch.bmm(key, query.mT)
            else:
                scores = torch.bmm(query, key.mT)
            if bias is not None and bias_where == "before scaling":
                scores = scores + bias[:, 0]
            scores = scores * {"D": D, "H": H, "T": hidden.size(1), "nothing": 1}[scale] ** -0.5
            if bias is not None and bias_where == "scores":
                scores = scores + bias[:, 0]
            all_scores.append(scores)
            values.append(value)
            step = [head * D + d for d in range(D)]
            places.append(step if columns == "head, component" else [d * num_heads + head for d in range(D)])
        stacked = torch.stack(all_scores)
        if softmax == "heads":
            stacked = torch.softmax(stacked, 0)
        else:
            stacked = torch.softmax(stacked, -1 if softmax == "keys" else -2)
        if bias is not None and bias_where == "shares":
            stacked = stacked + bias[None, :, 0]
        output = state["output.weight"]
        result = torch.zeros_like(hidden)
        for shares, value, place in zip(stacked, values, places):
            columns_of_head = output[place].t() if transposed else output[:, place]
            result = result + (shares @ value) @ columns_of_head.t()
        return result + state["output.bias"] if output_offset else result

    return multi_head


class MultiHead(nn.Module):
    """Split and merged, as the package does."""

    def forward(self, hidden, state, num_heads, bias=None):
        B, T, H = hidden.shape
        made = nn.functional.linear(hidden, state["query_key_value.weight"], state["query_key_value.bias"])
        query, key, value = (x.view(B, T, num_heads, -1).permute(0, 2, 1, 3) for x in made.split(H, dim=2))
        scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(H / num_heads)
        scores = scores if bias is None else scores + bias
        context = torch.matmul(scores.exp() / scores.exp().sum(-1, keepdim=True), value)
        return nn.functional.linear(
            context.permute(0, 2, 1, 3).reshape(B, T, H), state["output.weight"], state["output.bias"]
        )


MULTI_HEAD = Answers(
    "multi_head",
    styles={"einsum": with_views, "head by head": head_by_head},
    right={"module": MultiHead()},
    wrong={
        "no output bias": mistake("lacks its bias, `output.bias`", output_offset=False),
        "no bias on query, key and value": mistake("lack their bias", offsets=False),
        "output weight transposed": mistake("applied the wrong way round", transposed=True),
        "query rows as values": mistake("first third", parts="qkq"),
        "key rows as values": mistake("second third", parts="qkk"),
        "not scaled": mistake("are not scaled", scale="nothing"),
        "root of T": mistake("root of T", scale="T"),
        "root of H": mistake("root of H.", scale="H"),
        "query and key swapped": mistake("changed places", swapped=True),
        "softmax over the queries": mistake("runs over the queries", softmax="queries"),
        "softmax over the heads": mistake("runs over the heads", softmax="heads"),
        "rows by head, then part": mistake("as head, then part", layout="head, part, component"),
        "rows interleaved": mistake("not next to each other", layout="part, component, head"),
        "columns interleaved": mistake("(H, D, A)", columns="component, head"),
        "both interleaved": mistake(
            "every A-th row", layout="part, component, head", columns="component, head"
        ),
        "bias forgotten": mistake("With and without a bias", bias_where="nowhere"),
        "bias scaled": mistake("divided by the root of D, with", bias_where="before scaling"),
        "bias after softmax": mistake("added to the shares", bias_where="shares"),
        "float32 in between": mistake("turned into float32", single=True),
        "input changed": mistake("in place, and whoever", inputs="changed"),
    },
    two_at_once=(dict(scale="H", bias_where="nowhere"), "root of H"),
)


# ---- 5.2: attention in blocks ------------------------------------------------------------------------------


def running_sums(
    scale=True,
    divide="at the end",
    shrink=("weights", "weighted"),
    largest="so far",
    ends="all",
    at_once=False,
    single=False,
):
    """Two sums that go on from block to block."""

    def attention_in_blocks(query, key, value, block):
        if single:
            query, key, value = query.float(), key.float(), value.float()
        T, D = query.shape[-2:]
        if at_once:
            return (query @ key.mT / math.sqrt(D)).softmax(-1) @ value
        largest_so_far = torch.full(query.shape[:-1] + (1,), -math.inf, dtype=query.dtype)
        weights, weighted = torch.zeros_like(largest_so_far), torch.zeros_like(query)
        results = []
        stop = T if ends != "dropped" or T < block else T // block * block
        for start in range(0, stop, block):
            keys, values = key[..., start : start + block, :], value[..., start : start + block, :]
            if ends == "filled up" and keys.shape[-2] < block and T > block:
                missing = keys.new_zeros(*keys.shape[:-2], block - keys.shape[-2], D)
                keys, values = torch.cat([keys, missing], -2), torch.cat([values, missing], -2)
            scores = query @ keys.transpose(-2, -1) / (math.sqrt(D) if scale else 1.0)
            top = scores.amax(dim=-1, keepdim=True)
            if divide in ("each block, mean", "each block, sum", "each block, last", "each block, first"):
                results.append(scores.softmax(dim=-1) @ values)
                continue
            if largest == "so far":
                new = torch.maximum(largest_so_far, top)
            elif largest == "of the first block":
                new = top if start == 0 else largest_so_far
            elif largest == "of each block":
                new = top
            else:
                new = torch.zeros_like(top)
                largest_so_far = torch.zeros_like(top)
            factor = (largest_so_far - new).exp()
            part = (scores - new).exp()
            weights = weights * (factor if "weights" in shrink else 1.0) + part.sum(dim=-1, keepdim=True)
            weighted = weighted * (factor if "weighted" in shrink else 1.0) + part @ values
            largest_so_far = new
        if divide == "each block, mean":
            return torch.stack(results).mean(dim=0)
        if divide == "each block, sum":
            return sum(results)
        if divide == "each block, last":
            return results[-1]
        if divide == "each block, first":
            return results[0]
        return weighted / weights

    return attention_in_blocks


def row_by_row(
    scale=True,
    divide="at the end",
    shrink=("weights", "weighted"),
    largest="so far",
    ends="all",
    at_once=False,
    single=False,
):
    """Each query goes through the blocks by itself, with numbers of Python and NumPy-like slices."""

    def attention_in_blocks(query, key, value, block):
        B, A, T, D = query.shape
        if single:
            query = query.to(torch.float32).to(torch.float64)
        if at_once:
            scores = torch.einsum("...td,...kd->...tk", query, key) / D**0.5
            shares = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
            return torch.einsum("...tk,...kd->...td", shares / shares.sum(-1, keepdim=True), value)
        result = torch.zeros_like(value)
        blocks = [list(range(T))[start : start + block] for start in range(0, T, block)]
        if ends == "dropped" and len(blocks) > 1:
            blocks = [places for places in blocks if len(places) == block]
        for b in range(B):
            for a in range(A):
                for t in range(T):
                    top, weight, total, parts = -math.inf, 0.0, torch.zeros(D, dtype=value.dtype), []
                    if largest == "nothing":
                        top = 0.0
                    for number, places in enumerate(blocks):
                        scores = key[b, a, places] @ query[b, a, t]
                        values = value[b, a, places]
                        if scale:
                            scores = scores / D**0.5
                        if ends == "filled up" and len(blocks) > 1:
                            empty = block - len(places)
                            scores = torch.cat([scores, scores.new_zeros(empty)])
                            values = torch.cat([values, values.new_zeros(empty, D)])
                        highest = max(scores.tolist())
                        if divide.startswith("each block"):
                            parts.append(torch.softmax(scores, 0) @ values)
                            continue
                        if largest == "so far":
                            new = max(top, highest)
                        elif largest == "of the first block":
                            new = highest if number == 0 else top
                        elif largest == "of each block":
                            new = highest
                        else:
                            new = 0.0
                        factor = math.exp(min(top - new, 710.0)) if top - new < 709 else math.inf
                        exps = torch.exp(scores - new)
                        weight = weight * (factor if "weights" in shrink else 1.0) + exps.sum()
                        total = total * (factor if "weighted" in shrink else 1.0) + exps @ values
                        top = new
                    if divide.startswith("each block"):
                        total = {
                            "mean": sum(parts) / len(parts),
                            "sum": sum(parts),
                            "last": parts[-1],
                            "first": parts[0],
                        }[divide.split(", ")[1]]
                        weight = 1.0
                    result[b, a, t] = total / weight
        return result

    return attention_in_blocks


def two_passes(query, key, value, block):
    """First the largest score of each query, then the sums; scores are made twice, and never kept."""
    starts = range(0, key.shape[-2], block)
    query = query * query.shape[-1] ** -0.5
    tops = [(query @ key[..., s : s + block, :].mT).amax(-1, keepdim=True) for s in starts]
    top = torch.stack(tops).amax(0)
    weight = weighted = 0.0
    for s in starts:
        exps = torch.exp(query @ key[..., s : s + block, :].mT - top)
        weight, weighted = weight + exps.sum(-1, keepdim=True), weighted + exps @ value[..., s : s + block, :]
    return weighted / weight


class InBlocks(nn.Module):
    """Joins the blocks' own results by their log-sum-exp."""

    def forward(self, query, key, value, block):
        result, total = None, None
        for keys, values in zip(key.split(block, -2), value.split(block, -2)):
            scores = torch.einsum("batd,bakd->batk", query, keys) / math.sqrt(query.size(-1))
            weight = scores.logsumexp(-1, keepdim=True)
            mine = torch.einsum("batk,bakd->batd", torch.softmax(scores, -1), values)
            if result is None:
                result, total = mine, weight
            else:
                both = torch.logaddexp(total, weight)
                result, total = result * (total - both).exp() + mine * (weight - both).exp(), both
        return result


IN_BLOCKS = Answers(
    "attention_in_blocks",
    styles={"running sums": running_sums, "row by row": row_by_row},
    right={"two passes": two_passes, "module": InBlocks()},
    wrong={
        "not scaled": mistake("not scaled", scale=False),
        "last block only": mistake("that of the last block alone", divide="each block, last"),
        "first block only": mistake("that of the first block alone", divide="each block, first"),
        "blocks added": mistake("sum to 3", divide="each block, sum"),
        "mean of the blocks": mistake("mean of the blocks' means", divide="each block, mean"),
        "rest dropped": mistake("is left out", ends="dropped"),
        "rest filled with zeros": mistake("filled up to three keys", ends="filled up"),
        "sums not made smaller": mistake("neither sum is made smaller", shrink=()),
        "only one sum made smaller": mistake("the sum of exp(score) stays", shrink=("weighted",)),
        "only the other sum made smaller": mistake("times value stays", shrink=("weights",)),
        "nothing subtracted": mistake("before exp", largest="nothing"),
        "largest of the first block": mistake("of the first block for ever", largest="of the first block"),
        "largest of each block": mistake("each block's own largest", largest="of each block"),
        "all scores at once": mistake("all scores at once", at_once=True),
        "float32 in between": mistake("must stay float64", single=True),
    },
    two_at_once=(dict(divide="each block, sum", scale=False), "not scaled"),
)


# ---- 5.3: hiding the padding of a batch --------------------------------------------------------------------


def broadcast(axis="keys", amount=HIDE, how="added", sentences="own", inverted=False, returns="scores"):
    """The mask gets the missing axes."""

    def hide_padding(scores, attention_mask):
        mask = 1.0 - attention_mask if inverted else attention_mask
        if sentences == "first":
            mask = mask[:1]
        elif sentences == "any":
            mask = mask.amin(dim=0, keepdim=True)
        hidden = {
            "keys": (1.0 - mask)[:, None, None, :],
            "queries": (1.0 - mask)[:, None, :, None],
            "both": 1.0 - mask[:, None, None, :] * mask[:, None, :, None],
            "heads": (1.0 - mask)[:, None, :],
            "heads, forced": (1.0 - mask)[: scores.shape[1]].repeat(1, 1)[None, :, None, :]
            if len(scores) == scores.shape[1]
            else (1.0 - mask)[:, None, None, :],
        }[axis]
        if how == "multiplied":
            return scores * (1.0 - hidden)
        if how == "infinity":
            result = scores.masked_fill(hidden.bool(), -math.inf)
        else:
            result = scores + amount * hidden
        return result.softmax(dim=-1) if returns == "shares" else result

    return hide_padding


def by_sentence(axis="keys", amount=HIDE, how="added", sentences="own", inverted=False, returns="scores"):
    """Sentence by sentence, head by head."""

    def hide_padding(scores, attention_mask):
        B, A, T, _ = scores.shape
        if axis == "heads" and B not in (1, A):
            raise RuntimeError(f"The size of tensor a ({A}) must match the size of tensor b ({B})")
        result = scores.clone()
        for b in range(B):
            for a in range(A):
                row = attention_mask[{"heads": a if B > 1 else 0}.get(axis, b)]
                if axis == "heads, forced":
                    row = attention_mask[a if A == B else b]
                if sentences == "first":
                    row = attention_mask[0]
                elif sentences == "any":
                    row = attention_mask.min(dim=0).values
                for t in range(T):
                    if (row[t] == 0) == inverted:
                        continue
                    places = []
                    if axis != "queries":
                        places.append((slice(None), t))
                    if axis == "queries" or axis == "both":
                        places.append((t, slice(None)))
                    for place in places:
                        if how == "multiplied":
                            result[b, a][place] = 0.0
                        elif how == "infinity":
                            result[b, a][place] = -math.inf
                        elif axis == "both":
                            result[b, a][place] = scores[b, a][place] + amount
                        else:
                            result[b, a][place] += amount
        return torch.softmax(result, dim=3) if returns == "shares" else result

    return hide_padding


def with_where(scores, attention_mask):
    return torch.where(attention_mask.bool()[:, None, None], scores, torch.finfo(scores.dtype).min)


class HidePadding(nn.Module):
    def forward(self, scores, attention_mask):
        visible = attention_mask.repeat_interleave(scores.size(1), dim=0)  # (B * A, T)
        flat = scores.flatten(0, 1).masked_fill((visible == 0).unsqueeze(1), -math.inf)
        return flat.view_as(scores)


HIDE_PADDING = Answers(
    "hide_padding",
    styles={"broadcast": broadcast, "loops": by_sentence},
    right={"where": with_where, "module": HidePadding()},
    wrong={
        "B lands on the heads": mistake("end in an error", axis="heads"),
        "head b hides sentence b": mistake("has landed on the axis of heads", axis="heads, forced"),
        "on the queries": mistake("The mask changes no share", axis="queries"),
        "queries and keys": mistake("rows of padded queries are hidden as well", axis="both"),
        "queries and keys, minus infinity": mistake("softmax makes NaN of them", axis="both", how="infinity"),
        "mask inverted": mistake("the wrong way round", inverted=True),
        "scores times mask": mistake("multiply the scores by the mask", how="multiplied"),
        "shares returned": mistake("You return shares", returns="shares"),
        "too small a number": mistake("not large enough", amount=-30.0),
        "padding of the first sentence": mistake("the padding of the first one", sentences="first"),
        "padding of any sentence": mistake("in every sentence as soon as it is padding", sentences="any"),
    },
    two_at_once=(dict(axis="heads", amount=-30.0), "too small a number"),
)

ANSWERS = (MULTI_HEAD, IN_BLOCKS, HIDE_PADDING)
