"""Answers to the exercises of chapter 13."""

from itertools import permutations

import numpy as np
import torch
from torch import nn

from . import Answers, mistake

# ---- 13.1: scores from a confusion matrix ------------------------------------------------------------------


def whole_matrix(accuracy="share", f1="each class", nothing="zero", times=1.0, summed=False, in_place=False):
    """All classes at once."""

    def scores_from(matrix):
        right, texts, said = matrix.diagonal().copy(), matrix.sum(1), matrix.sum(0)
        shares = {
            "share": right.sum() / matrix.sum(),
            "recalls": (right / texts).mean(),
            "count": right.sum(),
            "wrong": 1 - right.sum() / matrix.sum(),
        }
        each = 2 * right / (texts + said)
        with np.errstate(all="ignore"):
            precision, recall = right / said, right / texts
            by_both = 2 * precision * recall / (precision + recall)
        if nothing == "left out":
            each = each[right > 0]
        elif nothing == "nan":
            each = by_both
        means = {
            "each class": each.sum() if summed else each.mean(),
            "micro": right.sum() / matrix.sum(),
            "weighted": (each * texts).sum() / texts.sum() if len(each) == len(texts) else 0.0,
            "of the means": 2 * precision.mean() * recall.mean() / (precision.mean() + recall.mean()),
            "recall": recall.mean(),
            "precision": precision.mean(),
            "plain mean": (precision.mean() + recall.mean()) / 2,
            "half": each.mean() / 2,
        }
        if in_place:
            np.fill_diagonal(matrix, 0)
        return {"accuracy": times * shares[accuracy], "macro_f1": means[f1]}

    return scores_from


def class_by_class(
    accuracy="share", f1="each class", nothing="zero", times=1.0, summed=False, in_place=False
):
    """One class after the other, with precision and recall."""

    def scores_from(matrix):
        rows = matrix.tolist()
        C = len(rows)
        total = sum(map(sum, rows))
        correct = sum(rows[k][k] for k in range(C))
        precisions, recalls, scores, sizes = [], [], [], []
        for k in range(C):
            row, column = sum(rows[k]), sum(rows[j][k] for j in range(C))
            precision = rows[k][k] / column if column else (np.nan if nothing == "nan" else 0.0)
            recall = rows[k][k] / row
            if precision + recall == 0 and nothing == "nan":
                score = np.nan
            elif precision + recall == 0:
                score = 0.0
            else:
                score = 2 * precision * recall / (precision + recall)
            if in_place:
                matrix[k, k] = 0
            if nothing == "left out" and score == 0:
                continue
            precisions.append(precision)
            recalls.append(recall)
            scores.append(score)
            sizes.append(row)
        p, r = np.mean(precisions), np.mean(recalls)
        found = {
            "each class": np.mean(scores) * (len(scores) if summed else 1),
            "micro": correct / total,
            "weighted": np.average(scores, weights=sizes),
            "of the means": 2 * p * r / (p + r) if p + r else 0.0,
            "recall": r,
            "precision": p,
            "plain mean": np.mean([(a + b) / 2 for a, b in zip(precisions, recalls)]),
            "half": np.mean(scores) / 2,
        }[f1]
        share = {
            "share": correct / total,
            "recalls": r,
            "count": correct,
            "wrong": (total - correct) / total,
        }[accuracy]
        return {"macro_f1": found, "accuracy": share * times}

    return scores_from


def from_labels(matrix):
    """Counts again, from the texts that the matrix stands for."""
    gold = np.repeat(np.arange(len(matrix)), matrix.sum(1))
    said = np.concatenate([np.repeat(np.arange(len(matrix)), row) for row in matrix])
    f1 = []
    for k in range(len(matrix)):
        hits, misses = ((gold == k) & (said == k)).sum(), ((gold == k) ^ (said == k)).sum()
        f1.append(hits / (hits + misses / 2))
    return {"accuracy": np.array([(gold == said).mean()]), "macro_f1": sum(f1) / len(f1)}


SCORES = Answers(
    "scores_from",
    styles={"matrix": whole_matrix, "classes": class_by_class},
    right={"labels": from_labels},
    wrong={
        "mean of the recalls": mistake("This is the mean of the classes' recalls", accuracy="recalls"),
        "percentage": mistake("and not a percentage", times=100),
        "a count": mistake("This is how many are right", accuracy="count"),
        "share of errors": mistake("the share that is wrong", accuracy="wrong"),
        "half": mistake("the 2 above the line", f1="half"),
        "summed": mistake("The classes' F1 are added up", summed=True),
        "micro": mistake("This is accuracy once more", f1="micro"),
        "weighted": mistake("The classes are weighted", f1="weighted"),
        "F1 of the means": mistake("This is the F1 of the mean precision", f1="of the means"),
        "recall alone": mistake("columns have something to say", f1="recall"),
        "precision alone": mistake("rows have something to say", f1="precision"),
        "plain mean": mistake("not the plain mean", f1="plain mean"),
        "nothing right, left out": mistake("You leave out the class of which", nothing="left out"),
        "nothing right, NaN": mistake("there is a 0 / 0", nothing="nan"),
        "matrix changed": mistake("Afterwards the matrix", in_place=True),
    },
    two_at_once=(dict(accuracy="recalls", f1="micro"), "mean of the recalls"),
)


# ---- 13.2: the mean of the vectors -------------------------------------------------------------------------


def rows_of(features, in_place=False):
    """(B, T) each: ids, segments and mask, padded by hand."""
    T = max(len(feature.input_ids) for feature in features)
    ids, types, mask = [], [], []
    for feature in features:
        n = len(feature.input_ids)
        mask.append([1] * n + [0] * (T - n))
        if in_place:
            feature.input_ids += [0] * (T - n)
            feature.token_type_ids.extend([0] * (T - n))
            ids.append(feature.input_ids)
            types.append(feature.token_type_ids)
        else:
            ids.append(feature.input_ids + [0] * (T - n))
            types.append(feature.token_type_ids + [0] * (T - n))
    return torch.tensor(ids), torch.tensor(types), torch.tensor(mask)


def in_a_batch(
    what="mean", padding="left out", mask_given=True, types_given=True, order="kept", in_place=False
):
    """All texts in one padded batch."""

    def mean_vectors(bert, features):
        if order == "sorted":
            features = sorted(features, key=lambda feature: len(feature.input_ids))
        ids, types, shown = rows_of(features, in_place)
        output = bert(
            ids,
            attention_mask=shown if mask_given else None,
            token_type_ids=types if types_given else None,
        )
        hidden = output.last_hidden_state  # (B, T, H)
        if padding == "inverted":
            shown = 1 - shown
        mask = shown.unsqueeze(-1)  # (B, T, 1)
        if what == "pooled":
            return output.pooler_output
        if what == "first":
            return hidden[:, 0]
        if what == "largest":
            return hidden.masked_fill(mask == 0, -torch.inf).max(1).values
        if what == "sum":
            return (hidden * mask).sum(1)
        if what == "words":
            mask = mask.clone()
            mask[:, 0] = 0
            mask[torch.arange(len(ids)), shown.sum(1) - 1] = 0
        if padding == "counted":
            return hidden.mean(1)
        if padding == "in the length":
            return (hidden * mask).mean(1)
        return (hidden * mask).sum(1) / mask.sum(1)

    return mean_vectors


def text_by_text(
    what="mean", padding="left out", mask_given=True, types_given=True, order="kept", in_place=False
):
    """One vector after the other out of a padded batch."""

    def mean_vectors(bert, features):
        ids, types, shown = rows_of(features, in_place)
        keywords = {}
        if mask_given:
            keywords["attention_mask"] = shown
        if types_given:
            keywords["token_type_ids"] = types
        with torch.no_grad():
            output = bert(ids, **keywords)
        places = range(len(features))
        if order == "sorted":
            places = sorted(places, key=lambda place: int(shown[place].sum()))
        rows = []
        for place in places:
            here = output.last_hidden_state[place]  # (T, H)
            real = here[shown[place].bool()]
            if padding == "inverted":
                real = here[~shown[place].bool()]
            if what == "words":
                real = real[1:-1]
            total = real.sum(0)
            if padding == "counted":
                total = here.sum(0)
            length = len(here) if padding in ("counted", "in the length") else len(real)
            rows.append(
                {
                    "mean": total / length,
                    "words": total / length,
                    "sum": total,
                    "first": here[0],
                    "largest": here.amax(0),
                    "pooled": output.pooler_output[place],
                }[what]
            )
        return torch.stack(rows)

    return mean_vectors


class OneAtATime:
    """Never pads anything."""

    def __call__(self, bert, features):
        found = []
        for feature in features:
            ids = torch.tensor(feature.input_ids)[None]
            types = torch.tensor(feature.token_type_ids)[None]
            output = bert(ids, attention_mask=torch.ones_like(ids), token_type_ids=types)
            found.append(output.last_hidden_state.mean(dim=1))
        return torch.cat(found)


class Pool(nn.Module):
    """A product with a matrix of shares."""

    def forward(self, bert, features):
        ids, types, shown = rows_of(features)
        hidden = bert(ids, attention_mask=shown, token_type_ids=types).last_hidden_state
        return torch.einsum("bt,bth->bh", nn.functional.normalize(shown.float(), p=1, dim=1), hidden)


MEANS = Answers(
    "mean_vectors",
    styles={"batch": in_a_batch, "texts": text_by_text},
    right={"one at a time": OneAtATime(), "einsum": Pool()},
    wrong={
        "pooled": mistake("This is the pooled vector", what="pooled"),
        "[CLS]": mistake("the vector of [CLS] alone", what="first"),
        "sum": mistake("This is the sum of the tokens", what="sum"),
        "largest": mistake("the largest of each number", what="largest"),
        "without [CLS] and [SEP]": mistake("You leave out [CLS] and [SEP]", what="words"),
        "padding counted": mistake("it runs over all T rows", padding="counted"),
        "divided by T": mistake("but you divide by T", padding="in the length"),
        "mask inverted": mistake("1 in the mask is a token", padding="inverted"),
        "sorted": mistake("sorted by their length", order="sorted"),
        "encoder without mask": mistake("not told what is padding", mask_given=False),
        "encoder without segments": mistake("which of the two texts", types_given=False),
        "features padded": mistake("Afterwards the features", in_place=True),
    },
    two_at_once=(dict(padding="in the length", mask_given=False), "divided by T"),
)


# ---- 13.3: renamed classes ---------------------------------------------------------------------------------


def tries_all(
    way="there", unchanged="none", tried="all", needs="more", counted="both", classes=None, in_place=False
):
    """All permutations, as in the chapter."""

    def renamed(gold, predicted):
        truth, said = np.array(gold), np.array(predicted)
        if in_place:
            gold.sort()
            predicted.sort()
        largest = {
            "both": max(truth.max(), said.max()),
            "gold": truth.max(),
            "predicted": said.max(),
        }[counted]
        count = classes or largest + 1
        ways = list(permutations(range(count)))
        if tried == "swaps":
            ways = [p for p in ways if sum(a != k for k, a in enumerate(p)) <= 2]

        def right(p):
            p = np.array(p)
            return (p[truth] == said).mean() if way == "back" else (p[said] == truth).mean()

        best = max(ways, key=right)
        if needs == "all right" and right(best) < 1:
            return None
        if needs == "below chance" and right(ways[0]) >= 1 / count:
            return None
        if needs == "any mistake" and right(ways[0]) < 1:
            return max(ways[1:], key=right)
        if best == ways[0] and unchanged == "none":
            return None
        return best

    return renamed


def from_counts(
    way="there", unchanged="none", tried="all", needs="more", counted="both", classes=None, in_place=False
):
    """Counts pairs first, and builds the permutations one class after the other."""

    def renamed(gold, predicted):
        C = classes
        if C is None:
            C = 1 + max({"both": gold + predicted, "gold": gold, "predicted": predicted}[counted])
        table = [[0] * C for _ in range(C)]  # [answer][truth]
        for truth, answer in zip(gold, predicted):
            if way == "back":
                table[truth][answer] += 1
            else:
                table[answer][truth] += 1
        if in_place:
            gold.reverse()
        best, most = None, -1

        def go_on(p):
            nonlocal best, most
            if len(p) == C:
                if tried == "swaps" and sum(a != k for k, a in enumerate(p)) > 2:
                    return
                if needs == "any mistake" and p == list(range(C)) and as_it_is < len(gold):
                    return
                right = sum(table[k][a] for k, a in enumerate(p))
                if right > most:
                    best, most = p, right
                return
            for number in range(C):
                if number not in p:
                    go_on([*p, number])

        as_it_is = sum(table[k][k] for k in range(C))
        go_on([])
        if needs == "all right" and most < len(gold):
            return None
        if needs == "below chance" and as_it_is * C >= len(gold):
            return None
        if best == list(range(C)):
            return None if unchanged == "none" else best
        return torch.tensor(best)

    return renamed


def by_assignment(gold, predicted):
    """As an assignment of answers to classes."""
    from scipy.optimize import linear_sum_assignment

    C = max(*gold, *predicted) + 1
    table = np.zeros((C, C), dtype=int)
    np.add.at(table, (predicted, gold), 1)
    _, columns = linear_sum_assignment(table, maximize=True)
    improves = table[np.arange(C), columns].sum() > table.trace()
    return columns if improves else None


RENAMED = Answers(
    "renamed",
    styles={"all ways": tries_all, "counts": from_counts},
    right={"assignment": by_assignment},
    wrong={
        "the way back": mistake("This is the way back", way="back"),
        "says that nothing changes": mistake("not the permutation (0, 1, 2)", unchanged="identity"),
        "two at a time": mistake("changed names in a circle, (", tried="swaps"),
        "all or nothing": mistake("and the best one is asked for", needs="all right"),
        "any mistake": mistake("best left as it is", needs="any mistake"),
        "classes of the truth": mistake("never true is one all the same", counted="gold"),
        "classes of the answers": mistake("never said is one all the same", counted="predicted"),
        "always three classes": mistake("With 2 classes, a permutation", classes=3),
        "lists changed": mistake("Afterwards the lists", in_place=True),
    },
    two_at_once=(dict(way="back", unchanged="identity"), "says that nothing changes"),
)

ANSWERS = (SCORES, MEANS, RENAMED)
