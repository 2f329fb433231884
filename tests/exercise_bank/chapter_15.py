"""Answers to the exercises of chapter 15."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import Answers, mistake

# ---- 15.1: from scores to an answer ------------------------------------------------------------------------


def three_loops(
    shift=True,
    places="text",
    pairs="all",
    longest=0,
    start_at="maximum context",
    cut="answer",
    null="min",
    silent="right",
    empty="text",
    inputs="kept",
):
    """Windows, starts, ends, one after the other."""

    def read_off(context, parts, threshold=0.0, max_answer=30):
        best, best_score, nulls = None, -math.inf, []
        for window, (starts, ends) in parts:
            first, size = (window.first if shift else 0), len(window.offsets)
            nulls.append(float(starts[0]) + float(ends[0]))
            candidates = [(i, j) for i in range(size) for j in range(size)]
            if pairs in ("start first", "apart") and size:
                inside = starts[first : first + size], ends[first : first + size]
                i = int(inside[0].argmax())
                ways = range(size) if pairs == "apart" else range(i, size)
                candidates = [(i, max(ways, key=lambda j: inside[1][j]))]
            elif pairs == "end first" and size:
                j = int(ends[first : first + size].argmax())
                candidates = [(max(range(j + 1), key=lambda i: starts[first + i]), j)]
            if places == "input" and size:
                top = int(starts.argmax()), int(ends.argmax())
                if not all(first <= place < first + size for place in top):
                    continue
            for i, j in candidates:
                score = float(starts[first + i]) + float(ends[first + j])
                a, b = (min(i, j), max(i, j)) if pairs == "turned" else (i, j)
                if b < a and pairs != "apart":
                    continue
                if longest != "any" and b - a + 1 > max_answer + longest:
                    continue
                known = window.maximum_context
                if start_at != "anywhere" and not known[a]:
                    continue
                if start_at == "both" and not known[b]:
                    continue
                if score > best_score:
                    best_score, best = (
                        score,
                        (window.offsets[a], window.offsets[b], window.offsets[a : b + 1]),
                    )
        if best is None and empty == "error":
            raise ValueError("no span at all")
        chosen = {"min": min, "max": max, "mean": lambda n: sum(n) / len(n), "first": lambda n: n[0]}[null]
        lead = chosen(nulls) - best_score
        quiet = {
            "right": lead > threshold,
            "at the threshold": lead >= threshold,
            "without threshold": lead > 0,
            "sign": lead > -threshold,
            "turned": -lead > threshold,
            "never": False,
        }[silent]
        if quiet or best is None:
            return "" if empty != "None" or best is not None else None
        (start, first_end), (_, end), all_of_it = best
        return {
            "answer": context[start:end],
            "one more": context[start : end + 1],
            "first token": context[start:first_end],
            "joined": " ".join(context[a:b] for a, b in all_of_it),
            "places": (start, end),
            "everything": context,
        }[cut]

    return read_off


def by_matrices(
    shift=True,
    places="text",
    pairs="all",
    longest=0,
    start_at="maximum context",
    cut="answer",
    null="min",
    silent="right",
    empty="text",
    inputs="kept",
):
    """All sums of a window in one matrix; what is not allowed becomes minus infinity."""

    def read_off(context, parts, threshold=0.0, max_answer=30):
        found, nulls = [], []
        for window, scores in parts:
            size = len(window.offsets)
            text = scores[:, window.first :][:, :size] if shift else scores[:, :size]
            nulls.append(scores[:, 0].sum().item())
            if not size:
                continue
            if places == "input":
                top = scores.argmax(axis=1) - window.first
                if (top < 0).any() or (top >= size).any():
                    continue
            sums = text[0][:, None].astype(float) + text[1][None, :]  # (size, size)
            i, j = np.indices(sums.shape)
            if pairs == "turned":
                sums = np.maximum(sums, sums.T)
            forbidden = (j < i) & (pairs != "apart")
            if longest != "any":
                forbidden |= j - i >= max_answer + longest
            if start_at != "anywhere":
                forbidden |= ~window.maximum_context[:, None]
            if start_at == "both":
                forbidden |= ~window.maximum_context[None, :]
            if pairs in ("start first", "apart"):
                forbidden |= i != text[0].argmax()
            if pairs == "apart":
                forbidden |= j != text[1].argmax()
            if pairs == "end first":
                forbidden |= j != text[1].argmax()
            sums = np.where(forbidden, -np.inf, sums)
            a, b = np.unravel_index(sums.argmax(), sums.shape)
            if np.isfinite(sums[a, b]):
                found.append(
                    (sums[a, b], window.offsets[a : b + 1] or [window.offsets[a], window.offsets[b]])
                )
        if empty == "error":
            best_score, tokens = max(found, key=lambda entry: entry[0])
        else:
            best_score, tokens = max(found, key=lambda entry: entry[0], default=(-np.inf, []))
        if not tokens:
            return None if empty == "None" else ""
        null_score = {"min": np.min, "max": np.max, "mean": np.mean, "first": np.ravel}[null](nulls)
        lead = np.ravel(null_score)[0] - best_score
        if silent == "turned":
            lead = -lead
        if silent == "sign":
            threshold = -threshold
        if silent == "without threshold":
            threshold = 0
        if silent != "never" and (lead > threshold or (silent == "at the threshold" and lead == threshold)):
            return ""
        start, end = tokens[0][0], tokens[-1][1]
        if cut == "joined":
            return " ".join(context[slice(*token)] for token in tokens)
        if cut == "places":
            return [start, end]
        if cut == "everything":
            return context
        return context[start : {"one more": end + 1, "first token": tokens[0][1]}.get(cut, end)]

    return read_off


class ReadOff(nn.Module):
    """With torch, and the windows' own masks put together."""

    def forward(self, context, parts, threshold=0.0, max_answer=30):
        scores, texts, nulls = [torch.tensor(-torch.inf)], [""], []
        for window, both in parts:
            start, end = torch.from_numpy(both).double()
            nulls.append((start[0] + end[0]).item())
            for i, (left, _) in enumerate(window.offsets):
                for j, (_, right) in enumerate(window.offsets[i : i + max_answer], start=i):
                    if bool(window.maximum_context[i]):
                        scores.append(start[window.first + i] + end[window.first + j])
                        texts.append(context[left:right])
        best = torch.stack(scores).argmax()
        return texts[best] if scores[best] >= min(nulls) - threshold else ""


def sorted_pairs(context, parts, threshold=0.0, max_answer=30):
    pairs = []
    for window, (starts, ends) in parts:
        spans = zip(starts[window.first :], window.maximum_context, window.offsets)
        for place, (score, shown, (begin, _)) in enumerate(spans):
            last = min(place + max_answer, len(window.offsets))
            for further in range(place, last if shown else place):
                sum_of_both = float(score) + float(ends[window.first + further])
                pairs.append((sum_of_both, begin, window.offsets[further][1]))
    null = sorted(float(scores[0, 0]) + float(scores[1, 0]) for _, scores in parts)[0]
    for score, begin, end in sorted(pairs, reverse=True):
        return context[begin:end] if null - score <= threshold else ""
    return ""


READ_OFF = Answers(
    "read_off",
    styles={"three loops": three_loops, "matrices": by_matrices},
    right={"module": ReadOff(), "sorted": sorted_pairs},
    wrong={
        "whole context": mistake("You return the whole context", cut="everything"),
        "places": mistake("You return places", cut="places"),
        "one character more": mistake("One character too many", cut="one more"),
        "scores not shifted": mistake("as if it began at 0", shift=False),
        "first token alone": mistake("the first token of the answer alone", cut="first token"),
        "joined tokens": mistake("You join the tokens", cut="joined"),
        "question not left out": mistake("you give up", places="input"),
        "start, then end": mistake("You take the best start, and then", pairs="start first"),
        "end, then start": mistake("You take the best end, and then", pairs="end first"),
        "start and end apart": mistake("by themselves, and the end comes first", pairs="apart"),
        "turned round": mistake("you turn the two round", pairs="turned"),
        "any length": mistake("The answer has four tokens", longest="any"),
        "one token too short": mistake("your answer has two tokens", longest=-1),
        "starts anywhere": mistake("such a start does not count", start_at="anywhere"),
        "both with maximum context": mistake("at both borders", start_at="both"),
        "lead turned round": mistake("You are silent, although the null score", silent="turned"),
        "never silent": mistake("You are never silent", silent="never"),
        "threshold with the wrong sign": mistake("has the wrong sign", silent="sign"),
        "threshold not used": mistake("you compare with 0", silent="without threshold"),
        "silent at the threshold": mistake("exactly the threshold", silent="at the threshold"),
        "largest null score": mistake("The loudest window", null="max"),
        "mean null score": mistake("or the mean of all, makes you silent", null="mean"),
        "no span is an error": mistake("yours is an error", empty="error"),
    },
    two_at_once=(dict(start_at="anywhere", null="max"), "starts anywhere"),
)


# ---- 15.2: any of several places ---------------------------------------------------------------------------


def by_logarithms(
    over="sum", rows="mean", sign=1.0, softmax="row", safe="exact", result="tensor", inputs="kept"
):
    """With log-softmax and logsumexp."""

    def any_place_loss(logits, places):
        B, T = logits.shape
        logs = {
            "row": logits.log_softmax(dim=-1),
            "batch": logits.log_softmax(dim=0),
            "sigmoid": F.logsigmoid(logits),
        }[softmax]
        if inputs == "changed":
            logits -= logits.logsumexp(-1, keepdim=True)
            return -logits.masked_fill(~places, -torch.inf).logsumexp(-1).mean()
        if softmax == "sigmoid":
            return -torch.where(places, logs, F.logsigmoid(-logits)).mean()
        right = logs.masked_fill(~places, -torch.inf)  # (B, T)
        numbers = places.sum(-1)
        if over == "sum":
            of_rows = right.logsumexp(-1)
        elif over == "mean of losses":
            of_rows = logs.masked_fill(~places, 0.0).sum(-1) / numbers
        elif over == "sum of losses":
            of_rows = logs.masked_fill(~places, 0.0).sum(-1)
        elif over == "mean of probabilities":
            of_rows = right.logsumexp(-1) - numbers.log()
        elif over == "likeliest":
            of_rows = right.amax(-1)
        elif over == "first":
            of_rows = logs.gather(-1, places.int().argmax(-1, keepdim=True))[:, 0]
        if safe == "exp":
            exps = logits.exp()
            of_rows = ((exps * places).sum(-1) / exps.sum(-1)).log()
        elif safe == "cut off":
            of_rows = (of_rows.exp() + 1e-9).log()
        of_rows = -sign * of_rows
        if result == "wrong place":
            return (1 - (-of_rows).exp()).mean()
        loss = {
            "mean": of_rows.mean(),
            "sum": of_rows.sum(),
            "all scores": of_rows.sum() / (B * T),
            "by places": (of_rows * numbers).sum() / numbers.sum(),
            "over places": of_rows.sum() / numbers.sum(),
            "of probabilities": -(-of_rows).exp().mean().log(),
        }[rows]
        return loss.detach() if result == "detached" else loss

    return any_place_loss


def row_by_row(
    over="sum", rows="mean", sign=1.0, softmax="row", safe="exact", result="tensor", inputs="kept"
):
    """One row after the other, with the largest score taken out by hand."""

    def any_place_loss(logits, places):
        losses, numbers = [], []
        for b in range(len(logits)):
            row, right = logits[b], places[b].nonzero().flatten().tolist()
            if inputs == "changed":
                row.sub_(row.max())
            if softmax == "sigmoid":
                targets = places[b].to(row.dtype)
                losses.append(F.binary_cross_entropy_with_logits(row, targets))
                continue
            top = 0.0 if safe == "exp" else row.max()
            total = torch.log(torch.exp(row - top).sum())
            surprises = [total - (row[t] - top) for t in right]
            if softmax == "batch":
                surprises = [torch.logsumexp(logits[:, t], 0) - row[t] for t in right]
            if over == "mean of losses":
                loss = sum(surprises) / len(right)
            elif over == "sum of losses":
                loss = sum(surprises)
            elif over == "likeliest":
                loss = min(surprises)
            elif over == "first":
                loss = surprises[0]
            else:
                least = min(surprises)
                likely = sum(torch.exp(least - surprise) for surprise in surprises)
                if over == "mean of probabilities":
                    likely = likely / len(right)
                loss = least - torch.log(likely)
            if safe == "exp":
                loss = -torch.log(sum(torch.exp(row[t]) for t in right) / torch.exp(row).sum())
            if safe == "cut off":
                loss = -torch.log(torch.exp(-loss).clamp(min=1e-9))
            losses.append(sign * loss)
            numbers.append(len(right))
        if result == "wrong place":
            return sum(1 - torch.exp(-loss) for loss in losses) / len(losses)
        if rows == "of probabilities":
            return -torch.log(sum(torch.exp(-loss) for loss in losses) / len(losses))
        if rows == "by places":
            return sum(loss * number for loss, number in zip(losses, numbers)) / sum(numbers)
        divisor = {
            "mean": len(losses),
            "sum": 1,
            "all scores": logits.numel(),
            "over places": sum(numbers),
        }[rows]
        loss = sum(losses) / divisor
        return torch.tensor(loss.item()) if result == "detached" else loss

    return any_place_loss


def by_probabilities(logits, places):
    shares = logits.double().softmax(-1)  # double: a share of e^-600 is still a number
    return -torch.log((shares * places).sum(-1)).mean()


class AnyPlaceLoss(nn.Module):
    def forward(self, logits, places):
        other = torch.logaddexp(
            logits.masked_fill(places, -1e30).logsumexp(-1), torch.full((len(logits),), -1e30)
        )
        right = logits.masked_fill(~places, -1e30).logsumexp(-1)
        return F.softplus(other - right).mean()  # -log(r / (r + o)) = log(1 + o / r)


ANY_PLACE = Answers(
    "any_place_loss",
    styles={"logarithms": by_logarithms, "rows": row_by_row},
    right={"probabilities": by_probabilities, "module": AnyPlaceLoss()},
    wrong={
        "sum over the rows": mistake("the sum over the rows; their", rows="sum"),
        "mean over all scores": mistake("the number of all scores", rows="all scores"),
        "sign": mistake("The sign is the wrong way", sign=-1.0),
        "logarithm of the mean": mistake("the logarithm of the rows' mean", rows="of probabilities"),
        "probability, no surprise": mistake("probability that a wrong place", result="wrong place"),
        "sigmoid": mistake("with a sigmoid", softmax="sigmoid"),
        "softmax over the batch": mistake("Softmax runs over the rows", softmax="batch"),
        "mean of the losses": mistake("the mean of the losses of all", over="mean of losses"),
        "sum of the losses": mistake("You add up the losses", over="sum of losses"),
        "mean of the probabilities": mistake(
            "the mean of the right places' probabilities", over="mean of probabilities"
        ),
        "likeliest place": mistake("the likeliest right place alone", over="likeliest"),
        "first place": mistake("the first right place alone", over="first"),
        "rows weighted by places": mistake("with more right places counts more", rows="by places"),
        "divided by the places": mistake("The loss is divided by the number of right", rows="over places"),
        "overflow": mistake("somewhere exp becomes", safe="exp"),
        "cut off": mistake("is kept from becoming 0", safe="cut off"),
        "no gradient": mistake("no gradient leads back", result="detached"),
        "input changed": mistake("was changed in place", inputs="changed"),
    },
    two_at_once=(dict(over="mean of losses", rows="by places"), "mean of the losses"),
)


# ---- 15.3: labels that pass the test -----------------------------------------------------------------------


def perfect_scores(features):
    """As in the chapter: 10 at the label's start and end, 0 elsewhere."""
    raw = [np.zeros((2, len(feature.input_ids)), dtype=np.float32) for feature in features]
    for feature, logits in zip(features, raw):
        for row, place in enumerate(feature.labels):
            logits[row, place] = 10.0
    return raw


def by_predictions(
    silent="left out", labels="prepared", against="start", before=True, share="share", task_used=True
):
    """As in the chapter."""

    def comes_home(task, examples, prepared):
        total = len(examples)
        answered = [example for example in examples if example.answers]
        extra = 0
        if silent == "home":
            extra = total - len(answered)
        if silent == "raises":
            answered = examples
        labelled = [prepared(example) for example in answered] if labels == "prepared" else answered
        if silent == "raises":
            labelled = [example._replace(answers=[example.answers[0]]) for example in labelled]
        features = task.features(labelled)
        found = task.predictions(labelled, features, perfect_scores(features))
        if not task_used:
            found = [{"start": e.answers[0].start, "answer": e.answers[0].text} for e in labelled]
        right = [example.answers[0] for example in (answered if before else labelled)]
        if against == "text":
            home = [one["answer"] == answer.text for one, answer in zip(found, right)]
        elif against == "looked up":
            home = [
                example.context.find(one["answer"]) == answer.start
                for example, one, answer in zip(answered, found, right)
            ]
        else:
            home = [one["start"] == answer.start for one, answer in zip(found, right)]
        home = sum(home) + extra
        divisor = len(answered) if silent in ("left out", "raises") else total
        if share == "lost":
            return 1 - home / divisor
        return {"share": home / divisor, "number": home, "per cent": 100 * home / divisor}[share]

    return comes_home


def one_by_one(
    silent="left out", labels="prepared", against="start", before=True, share="share", task_used=True
):
    """Each example by itself."""

    def comes_home(task, examples, prepared):
        home = count = 0
        for example in examples:
            if silent == "raises":
                example.answers[0]
            if not example.answers:
                if silent != "left out":
                    count += 1
                    home += silent == "home"
                continue
            count += 1
            changed = prepared(example) if labels == "prepared" else example
            windows = task.features([changed])
            raw = []
            for window in windows:
                row = np.full((2, len(window.input_ids)), -3.0, dtype=np.float32)
                row[0, window.labels[0]] = row[1, window.labels[1]] = 5.0
                raw.append(row)
            (found,) = task.predictions([changed], windows, raw)
            if not task_used:
                found = {"start": changed.answers[0][1], "answer": changed.answers[0][0]}
            expected = (example if before else changed).answers[0]
            if against == "text":
                home += found["answer"] == expected.text
            elif against == "looked up":
                home += example.context.index(found["answer"]) == expected.start
            else:
                home += found["start"] == expected.start
        if share == "number":
            return home
        result = torch.tensor(home / count)
        return {"share": result, "per cent": 100 * result, "lost": 1 - result}[share]

    return comes_home


def from_labels(task, examples, prepared):
    """Without predictions: from the windows that hold an answer back to characters."""
    examples = [example for example in examples if example.answers]
    home = set()
    for window in task.features([prepared(example) for example in examples]):
        place = window.labels[0] - window.first
        if place >= 0 and window.offsets[place][0] == examples[window.example].answers[0].start:
            home.add(window.example)
    return len(home) / len(examples)


class ComesHome:
    def __call__(self, task, examples, prepared):
        pairs = [(example, prepared(example)) for example in examples if len(example.answers) > 0]
        features = task.features([new for _, new in pairs])
        found = task.predictions([new for _, new in pairs], features, perfect_scores(features))
        return np.mean([old.answers[0].start == one["start"] for (old, _), one in zip(pairs, found)])


HOME = Answers(
    "comes_home",
    styles={"predictions": by_predictions, "one by one": one_by_one},
    right={"labels": from_labels, "object": ComesHome()},
    wrong={
        "number": mistake("You return how many", share="number"),
        "per cent": mistake("You return per cent", share="per cent"),
        "share that is lost": mistake("the share of those that get lost", share="lost"),
        "text looked up": mistake("You look for the answer's text", against="looked up"),
        "nothing prepared": mistake("`prepared` is never called", labels="given"),
        "compared with the prepared ones": mistake("you still say that all come home. The", before=False),
        "texts compared": mistake("The *texts* are the same", against="text"),
        "silent ones prepared": mistake("leave them out before anything", silent="raises"),
        "silent ones at home": mistake("count as come home in yours", silent="home"),
        "silent ones lost": mistake("You divide by all questions", silent="lost"),
        "task not used": mistake("cut in two: they cannot be found", task_used=False),
    },
    two_at_once=(dict(against="text", silent="home"), "texts compared"),
)

ANSWERS = (READ_OFF, ANY_PLACE, HOME)
