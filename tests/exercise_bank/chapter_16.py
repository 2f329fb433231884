"""Answers to the exercises of chapter 16."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from . import Answers, mistake

# ---- 16.1: a step's work on paper --------------------------------------------------------------------------


def one_formula(
    passes=3,
    per_product=2,
    decoder="scored",
    matrices=2,
    layers="all",
    projections=4,
    squares=2,
    heads="H",
    reading="sequence",
    dense=True,
    pooler="first",
    pair=True,
    table=False,
):
    """A formula for each part."""

    def step_flops(config, batch, length, scored):
        H, I, V = config.hidden_size, config.intermediate_size, config.vocab_size  # noqa: E741
        L = config.num_hidden_layers if layers == "all" else 1
        A, N = config.num_attention_heads, batch * length
        width = {"H": H, "A H": A * H, "D": H // A}[heads]
        pairs = {"sequence": batch * length**2, "batch": N**2}[reading]
        decoded = {"scored": scored, "all": N, "in each row": batch * scored, "none": 0}[decoder]
        layer = N * (projections * H * H + matrices * H * I) + squares * pairs * width
        head = decoded * H * V + (decoded * H * H if dense else 0)
        first = {"first": batch * H * H, "all": N * H * H, "none": 0}[pooler] + (2 * batch * H if pair else 0)
        products = L * layer + head + first + (N * V * H if table else 0)
        return passes * per_product * products

    return step_flops


def list_of_products(
    passes=3,
    per_product=2,
    decoder="scored",
    matrices=2,
    layers="all",
    projections=4,
    squares=2,
    heads="H",
    reading="sequence",
    dense=True,
    pooler="first",
    pair=True,
    table=False,
):
    """Every product of the forward pass with its three sizes, one after the other."""

    def step_flops(config, batch, length, scored):
        H, A, tokens = config.hidden_size, config.num_attention_heads, batch * length
        D = {"H": H // A, "A H": H, "D": H // A}[heads]
        products = []
        if table:
            products.append((tokens, config.vocab_size, H))
        for number in range(config.num_hidden_layers):
            if layers == "one" and number:
                break
            products += [(tokens, H, H)] * projections
            rows = [length] * batch if reading == "sequence" else [tokens]
            for T in rows:
                for _ in range(1 if heads == "D" else A):
                    products += [(T, D, T), (T, T, D)][:squares]
            products += [(tokens, H, config.intermediate_size), (tokens, config.intermediate_size, H)][
                :matrices
            ]
        rows = {"scored": scored, "all": tokens, "in each row": scored * batch, "none": 0}[decoder]
        if dense:
            products.append((rows, H, H))
        products.append((rows, H, config.vocab_size))
        if pooler != "none":
            products.append((batch if pooler == "first" else tokens, H, H))
        if pair:
            products.append((batch, H, 2))
        total = 0
        for n, k, m in products:
            total += per_product * n * k * m
        return float(passes * total)

    return step_flops


def token_by_token_cost(config, batch, length, scored):
    """What one token costs, by the matrices that it meets."""
    H, V = config.hidden_size, config.vocab_size
    shapes = [(H, 3 * H), (H, H), (H, config.intermediate_size), (config.intermediate_size, H)]
    shapes += [(config.head_size, length), (length, config.head_size)] * config.num_attention_heads
    per_token = config.num_hidden_layers * sum(2 * rows * columns for rows, columns in shapes)
    forward = batch * length * per_token
    forward += scored * 2 * H * (H + V) + batch * 2 * H * (H + 2)
    return forward + 2 * forward


class StepFlops(nn.Module):
    def forward(self, config, batch, length, scored):
        H = config.hidden_size
        per_token = 12 * H * H if config.intermediate_size == 4 * H else None
        per_token = per_token or 4 * H * H + 2 * H * config.intermediate_size
        encoder = config.num_hidden_layers * batch * length * (per_token + 2 * length * H)
        heads = scored * H * (H + config.vocab_size) + batch * H * (H + 2)
        return 2 * (encoder + heads) + 4 * (encoder + heads)


FLOPS = Answers(
    "step_flops",
    styles={"formula": one_formula, "products": list_of_products},
    right={"by token": token_by_token_cost, "module": StepFlops()},
    wrong={
        "forward pass alone": mistake("You count the forward pass alone", passes=1),
        "backward like forward": mistake("You count the backward pass like", passes=2),
        "one operation": mistake("are two operations, and you count", per_product=1),
        "no decoder": mistake("the decoder, H × V, is missing", decoder="none"),
        "all tokens decoded": mistake("You send all tokens through the decoder", decoder="all"),
        "scored in each row": mistake("multiply the scored tokens by", decoder="in each row"),
        "table look-up": mistake("It copies rows", table=True),
        "one matrix of two": mistake("two matrices, H × I and I × H, and you count one", matrices=1),
        "one layer": mistake("You count one layer", layers="one"),
        "no output projection": mistake("the output projection, is missing", projections=3),
        "one projection": mistake("You count one projection", projections=1),
        "no scores": mistake("What grows with the square of T", squares=0),
        "scores alone": mistake("One product with T × T is missing", squares=1),
        "H in each head": mistake("You count H components in each head", heads="A H"),
        "one head": mistake("You count one head", heads="D"),
        "whole batch reads": mistake("all tokens of the batch read one another", reading="batch"),
        "no matrix before the decoder": mistake("the head's own matrix", dense=False),
        "no pooler": mistake("The pooler is missing", pooler="none"),
        "pooler on all tokens": mistake("you send all tokens through it.", pooler="all"),
        "no pair head": mistake("The pair head is missing", pair=False),
        "neither pooler nor pair head": mistake(
            "Pooler and pair head are missing", pooler="none", pair=False
        ),
    },
    two_at_once=(dict(matrices=1, pooler="none"), "one matrix of two"),
)


# ---- 16.2: no padding at all -------------------------------------------------------------------------------


def split_line(
    borders="right",
    divisor="D",
    heads="first",
    over=-1,
    order="kept",
    work="apart",
    precision="kept",
    subtract=True,
):
    """Cuts the line with `split`."""

    def unpadded_attention(query, key, value, lengths):
        N, A, D = query.shape
        if borders == "none":
            lengths = [N]
        elif borders == "one further":
            lengths = [lengths[0] + 1, *lengths[1:-1], lengths[-1] - 1] if len(lengths) > 1 else lengths
        elif borders == "equal":
            parts = [N // len(lengths)] * len(lengths)
            for number in range(N % len(lengths)):
                parts[number] += 1
            lengths = parts
        if precision == "float32":
            query, key, value = (vectors.float() for vectors in (query, key, value))
        scale = {"D": D, "nothing": 1, "A D": A * D, "N": N}[divisor] ** 0.5

        def attend(q, k, v, hidden=None):
            if heads == "read one another":
                return (q @ k.mT / scale).softmax(-1) @ v
            q, k, v = (part.transpose(0, 1) for part in (q, k, v))
            scores = q @ k.mT / scale  # (A, n, n)
            if hidden is not None:
                scores = scores.masked_fill(hidden, -math.inf)
            if subtract:
                shares = scores.softmax(over if over != "heads" else 0)
            else:
                shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
            return (shares @ v).transpose(0, 1)

        if work == "mask":
            number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
            return attend(query, key, value, number[:, None] != number)
        pieces = list(zip(*(vectors.split(lengths) for vectors in (query, key, value))))
        if work in ("padded", "reads padding"):
            padded = [pad_sequence(some, batch_first=True).transpose(1, 2) for some in zip(*pieces)]
            real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (B, T)
            scores = padded[0] @ padded[1].mT / scale  # (B, A, T, T)
            if work == "padded":
                scores = scores.masked_fill(~real[:, None, None, :], -math.inf)
            return (scores.softmax(-1) @ padded[2]).transpose(1, 2)[real]
        if order != "kept":
            pieces.sort(key=lambda piece: len(piece[0]), reverse=order == "longest first")
        return torch.cat([attend(*piece) for piece in pieces]).double()

    return unpadded_attention


def token_by_token(
    borders="right",
    divisor="D",
    heads="first",
    over=-1,
    order="kept",
    work="apart",
    precision="kept",
    subtract=True,
):
    """Writes each sequence's result into its slice of the line."""

    def unpadded_attention(query, key, value, lengths):
        N, A, D = query.shape
        result = torch.zeros_like(value, dtype=torch.float32 if precision == "float32" else None)
        scale = 1 / math.sqrt({"D": D, "nothing": 1, "A D": A * D, "N": N}[divisor])
        starts = [sum(lengths[:number]) for number in range(len(lengths) + 1)]
        if borders == "none":
            starts = [0, N]
        elif borders == "one further":
            starts = [0, *(start + 1 for start in starts[1:-1]), N]
        elif borders == "equal":
            each = math.ceil(N / len(lengths))
            starts = [min(number * each, N) for number in range(len(lengths) + 1)]
        sequences = list(zip(starts, starts[1:]))
        places = sequences
        if order != "kept":
            sequences = sorted(sequences, key=lambda s: s[1] - s[0], reverse=order == "longest first")
            ends = [sum(b - a for a, b in sequences[: number + 1]) for number in range(len(sequences))]
            places = list(zip([0, *ends], ends))
        longest = max(end - start for start, end in sequences)
        rooms = torch.zeros(len(sequences), A, longest, longest) if work == "padded" else None
        if work == "mask":
            rooms = torch.full((N, N), -math.inf)
            for start, end in sequences:
                rooms[start:end, start:end] = 0.0
        for row, ((start, end), (to, until)) in enumerate(zip(sequences, places)):
            here = slice(start, end)
            if heads == "read one another":
                for t in range(start, end):
                    shares = (query[t] @ key[t].T * scale).softmax(-1)
                    result[t] = shares @ value[t]
                continue
            scores = torch.einsum("qad,kad->aqk", query[here], key[here]) * scale
            if work == "reads padding":
                scores = F.pad(scores, (0, longest - (end - start)))
            if not subtract:
                shares = torch.exp(scores)
                shares = shares / shares.sum(-1, keepdim=True)
            elif over == "heads":
                shares = F.softmax(scores, dim=0)
            else:
                shares = F.softmax(scores, dim=over)
            if work == "padded":
                rooms[row, :, : end - start, : end - start] = shares
                shares = rooms[row, :, : end - start, : end - start].to(value.dtype)
                shares = F.softmax(scores, dim=-1)
            shares = shares[..., : end - start]
            result[to:until] = torch.einsum("aqk,kad->qad", shares, value[here])
        return result.to(value.dtype)

    return unpadded_attention


def with_fused_kernel(query, key, value, lengths):
    result, start = [], 0
    for length in lengths:
        parts = [
            vectors.narrow(0, start, length).unsqueeze(0).transpose(1, 2) for vectors in (query, key, value)
        ]
        result.append(F.scaled_dot_product_attention(*parts).transpose(1, 2).squeeze(0))
        start += length
    return torch.vstack(result)


class UnpaddedAttention(nn.Module):
    """Recursively: the first sequence, then the rest."""

    def forward(self, query, key, value, lengths):
        if not lengths:
            return value
        n, *rest = lengths
        scores = (query[:n, None] * key[None, :n]).sum(-1) / query.shape[-1] ** 0.5  # (n, n, A)
        shares = torch.exp(scores - torch.logsumexp(scores, 1, keepdim=True))
        first = (shares[..., None] * value[None, :n]).sum(1)
        return torch.cat([first, self(query[n:], key[n:], value[n:], rest)])


UNPADDED = Answers(
    "unpadded_attention",
    styles={"split": split_line, "slices": token_by_token},
    right={"fused": with_fused_kernel, "module": UnpaddedAttention()},
    wrong={
        "heads read one another": mistake("The heads of a token read", heads="read one another"),
        "not scaled": mistake("are not scaled", divisor="nothing"),
        "root of A D": mistake("the root of A D", divisor="A D"),
        "root of the tokens": mistake("the root of the number of tokens", divisor="N"),
        "softmax over the queries": mistake("Softmax runs over the queries", over=-2),
        "softmax over the heads": mistake("Softmax runs over the heads", over="heads"),
        "lengths not used": mistake("across the border", borders="none"),
        "border one too far": mistake("The border lies one token too far", borders="one further"),
        "equal parts": mistake("cut the line into equal parts", borders="equal"),
        "padding is read": mistake("give shares to the padding", work="reads padding"),
        "shortest first": mistake("the shortest sequence comes first", order="shortest first"),
        "longest first": mistake("the longest sequence comes first", order="longest first"),
        "float32": mistake("turned into float32", precision="float32"),
        "overflow": mistake("Scores of a thousand overflow", subtract=False),
        "all pairs and a mask": mistake("most of which must not read each other", work="mask"),
        "padded again": mistake("padding is back", work="padded"),
    },
    two_at_once=(dict(divisor="nothing", borders="none"), "not scaled"),
)


# ---- 16.3: right with one, wrong with four -----------------------------------------------------------------


def with_cross_entropy(
    weights="scored", zero="before", step="once", backward="each", joined=False, tells="mean", empty="fine"
):
    """PyTorch's loss, as a sum."""

    def accumulated_step(model, optimizer, micro_batches):
        def scored(labels):
            return int((labels != -100).sum())

        everything = sum(scored(labels) for _, labels in micro_batches)
        tokens, rows = (sum(f(labels) for _, labels in micro_batches) for f in (torch.numel, len))
        if zero == "before":
            optimizer.zero_grad()
        if joined:
            T = max(ids.shape[1] for ids, _ in micro_batches)
            pad = [(F.pad(i, (0, T - i.shape[1])), F.pad(x, (0, T - x.shape[1]), value=-100))
                   for i, x in micro_batches]  # fmt: skip
            micro_batches = [tuple(torch.cat(parts) for parts in zip(*pad))]
        total, kept, losses = 0.0, 0.0, []
        for input_ids, labels in micro_batches:
            if zero == "each":
                optimizer.zero_grad()
            if scored(labels) == 0 and empty == "fine":
                continue
            logits = model(input_ids).flatten(0, 1)
            mean = F.cross_entropy(logits, labels.flatten())
            share = {
                "scored": scored(labels) / everything,
                "means": 1 / len(micro_batches),
                "tokens": labels.numel() / tokens,
                "rows": len(labels) / rows,
                "nothing": 1.0,
                "sum": float(scored(labels)),
                "all tokens": scored(labels) / tokens,
            }[weights]
            loss = mean * share
            losses.append(mean.item())
            total += mean.item() * scored(labels)
            if backward == "each":
                loss.backward()
            else:
                kept = kept + loss
            if step == "each":
                optimizer.step()
                optimizer.zero_grad()
        if backward == "end":
            kept.backward()
        if zero == "between":
            optimizer.zero_grad()
        if step == "once":
            optimizer.step()
        return {
            "mean": total / everything,
            "means": sum(losses) / len(losses),
            "last": losses[-1],
            "sum": total,
            "nothing": None,
        }[tells]

    return accumulated_step


def by_hand(
    weights="scored", zero="before", step="once", backward="each", joined=False, tells="mean", empty="fine"
):
    """Log-softmax and the numbers of the right words."""

    def surprises(model, input_ids, labels):
        chosen = labels.ne(-100)
        logs = torch.log_softmax(model(input_ids), dim=-1)[chosen]  # (n, V)
        return -logs[torch.arange(len(logs)), labels[chosen]]

    def accumulated_step(model, optimizer, micro_batches):
        if zero == "before":
            for parameter in model.parameters():
                parameter.grad = None
        all_labels = torch.cat([labels.flatten() for _, labels in micro_batches])
        count = torch.sum(all_labels != -100)
        if joined:
            longest = max(labels.size(1) for _, labels in micro_batches)
            ids = torch.cat([F.pad(ids, (0, longest - ids.size(1))) for ids, _ in micro_batches])
            labels = [F.pad(labels, (0, longest - labels.size(1)), value=-100) for _, labels in micro_batches]
            micro_batches = [(ids, torch.cat(labels))]
        numerators, said, together = [], [], []
        for number, (input_ids, labels) in enumerate(micro_batches, start=1):
            costs = surprises(model, input_ids, labels)
            if weights == "scored":
                loss = costs.sum() / count
            elif weights == "all tokens":
                loss = costs.sum() / len(all_labels)
            elif weights == "sum":
                loss = costs.sum()
            else:
                if empty == "fine" and len(costs) == 0:
                    continue
                mean = costs.mean()
                factor = {
                    "means": 1 / len(micro_batches),
                    "nothing": 1,
                    "tokens": labels.numel() / len(all_labels),
                    "rows": labels.size(0) / sum(len(part) for _, part in micro_batches),
                }[weights]
                loss = factor * mean
            total = costs.detach().sum()
            numerators.append(len(costs) * costs.detach().mean() if empty == "nan" else total)
            said.append(costs.detach().mean())
            if zero == "each":
                optimizer.zero_grad(set_to_none=False)
            if backward == "each":
                loss.backward()
            else:
                together.append(loss)
            if step == "each" or number == len(micro_batches):
                if backward == "end":
                    torch.stack(together).sum().backward()
                if zero == "between":
                    optimizer.zero_grad(set_to_none=False)
                optimizer.step()
                if step == "each":
                    optimizer.zero_grad()
        if tells == "means":
            return torch.stack(said).mean()
        if tells == "last":
            return said[-1]
        if tells == "sum":
            return torch.stack(numerators).sum()
        return None if tells == "nothing" else torch.stack(numerators).sum() / count

    return accumulated_step


def divided_at_the_end(model, optimizer, micro_batches):
    """The gradients of the sums; divided when the number is known."""
    optimizer.zero_grad()
    total = number = 0
    for input_ids, labels in micro_batches:
        logits = model(input_ids)  # (B, T, V)
        loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum", ignore_index=-100)
        loss.backward()
        total, number = total + loss.item(), number + (labels >= 0).sum().item()
    for parameter in model.parameters():
        parameter.grad /= number
    optimizer.step()
    return total / number


class AccumulatedStep:
    """Asks autograd for the gradients, and clears up behind itself."""

    def __call__(self, model, optimizer, micro_batches):
        parameters = list(model.parameters())
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        count = sum((labels != -100).sum().item() for _, labels in micro_batches)
        said = 0.0
        for ids, labels in micro_batches:
            loss = (
                F.nll_loss(model(ids).log_softmax(-1).flatten(0, 1), labels.flatten(), reduction="sum")
                / count
            )
            for all_of_it, part in zip(sums, torch.autograd.grad(loss, parameters)):
                all_of_it.add_(part)
            said += float(loss)
        for parameter, gradient in zip(parameters, sums):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
        return said


ACCUMULATED = Answers(
    "accumulated_step",
    styles={"cross-entropy": with_cross_entropy, "by hand": by_hand},
    right={"divided at the end": divided_at_the_end, "object": AccumulatedStep()},
    wrong={
        "zeroed before the step": mistake("The weights do not move", zero="between"),
        "sum, not mean": mistake("is a sum over the scored tokens", weights="sum"),
        "divided by all tokens": mistake("divided by the number of all tokens", weights="all tokens"),
        "zeroed each time": mistake("Only the last micro-batch counts: the", zero="each"),
        "not divided": mistake("The gradients of both are added", weights="nothing"),
        "a step for each": mistake("You take a step after each", step="each"),
        "mean of means": mistake("the one scored token of the second counts", weights="means"),
        "weighted by tokens": mistake("by all their tokens", weights="tokens"),
        "weighted by rows": mistake("by their rows", weights="rows"),
        "nothing scored is NaN": mistake("the mean of nothing is 0 / 0", empty="nan"),
        "never zeroed": mistake("the gradients of the first are still there", zero="never"),
        "returns nothing": mistake("the function returns None", tells="nothing"),
        "returns the mean of means": mistake("You return the mean of the micro-batches'", tells="means"),
        "returns the last loss": mistake("You return the loss of the last", tells="last"),
        "returns the sum": mistake("You return the sum over all scored", tells="sum"),
        "all in one": mistake("You join the micro-batches", joined=True),
        "backward at the end": mistake("of several micro-batches are in memory", backward="end"),
    },
    two_at_once=(dict(weights="means", zero="each"), "zeroed each time"),  # the function as it was
)

ANSWERS = (FLOPS, UNPADDED, ACCUMULATED)
