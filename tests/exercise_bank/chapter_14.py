"""Answers to the exercises of chapter 14."""

import itertools
import math

import numpy as np
import torch
from torch import nn

from . import Answers, mistake

# ---- 14.1: from scores to tags -----------------------------------------------------------------------------


def with_counter(
    start=1, which="first", step="pieces", empty="usual", result="names", usual_tag="asked", inputs="kept"
):
    """Moves a counter from word to word."""

    def read_tags(logits, pieces, tag_names, usual="O"):
        usual = {"asked": usual, "O": "O", "first": tag_names[0]}[usual_tag]
        tags, place = [], start
        for number in list(pieces):
            if inputs == "changed":
                del pieces[0]
            if step == "before":
                place += number
            rows = logits[place : place + number]
            if number == 0 and empty != "read":
                if empty == "usual":
                    tags.append(usual)
                elif empty == "before":
                    tags.append(tags[-1])
            elif which == "each":
                tags += [tag_names[int(row.argmax())] for row in rows]
            else:
                row = logits[place]
                if which == "last":
                    row = rows[-1]
                elif which == "mean":
                    row = rows.mean(dim=0)
                elif which == "largest":
                    row = rows.max(dim=0).values
                best = int(row.argmax())
                tags.append(tag_names[best] if result == "names" else best)
            if step == "pieces":
                place += number
            elif step == "one":
                place += 1
            elif step == "at least one":
                place += max(1, number)
        return tags

    return read_tags


def with_places(
    start=1, which="first", step="pieces", empty="usual", result="names", usual_tag="asked", inputs="kept"
):
    """Works out all places first, then looks up all tags at once."""

    def read_tags(logits, pieces, tag_names, usual="O"):
        steps = {
            "pieces": pieces,
            "before": pieces,
            "one": [1] * len(pieces),
            "at least one": [number or 1 for number in pieces],
        }[step]
        ends = (start + np.cumsum(steps)).tolist()
        places = ends if step == "before" else [start, *ends[:-1]]
        usual = {"asked": usual, "O": "O", "first": next(iter(tag_names))}[usual_tag]
        best = logits.argmax(-1).tolist()
        found = []
        for number, place in zip(pieces, places):
            of_word = logits[place : place + number]
            if number == 0 and empty == "usual":
                found.append([usual])
            elif number == 0 and empty == "before":
                found.append(found[-1][-1:])
            elif number == 0 and empty == "left out":
                found.append([])
            elif which == "each":
                found.append(best[place : place + number])
            elif which == "last":
                found.append([best[place + number - 1]])
            elif which == "mean":
                found.append([of_word.sum(0).argmax().item()])
            elif which == "largest":
                found.append([int(of_word.flatten().argmax()) % logits.shape[1]])
            else:
                found.append([best[place]])
        if inputs == "changed":
            pieces.clear()
        flat = itertools.chain.from_iterable(found)
        if result == "numbers":
            return list(flat)
        return [tag if isinstance(tag, str) else tag_names[tag] for tag in flat]

    return read_tags


def from_behind(logits, pieces, tag_names, usual="O"):
    tags, end = [], len(logits) - 1  # the place of [SEP]
    for number in pieces[::-1]:
        end -= number
        tags.insert(0, usual if not number else tag_names[torch.topk(logits[end], 1).indices.item()])
    return tags


class ReadTags(nn.Module):
    def forward(self, logits, pieces, tag_names, usual="O"):
        rows = iter(logits[1:-1].tolist())
        tags = []
        for number in pieces:
            of_word = [next(rows) for _ in range(number)]
            tags.append(tag_names[of_word[0].index(max(of_word[0]))] if of_word else usual)
        return tuple(tags)


READ = Answers(
    "read_tags",
    styles={"counter": with_counter, "places": with_places},
    right={"from behind": from_behind, "module": ReadTags()},
    wrong={
        "begins at [CLS]": mistake("You read the scores of [CLS]", start=0),
        "moves on before reading": mistake("the scores behind the word", step="before"),
        "numbers, not names": mistake("the number of the tag", result="numbers"),
        "last piece": mistake("You read the last piece", which="last"),
        "mean of the pieces": mistake("You take the mean over", which="mean"),
        "largest of the pieces": mistake("the largest score among", which="largest"),
        "a tag for each piece": mistake("a tag for each piece; one", which="each"),
        "a place for each word": mistake("by one place for each word", step="one"),
        "empty word left out": mistake("is left out", empty="left out"),
        "empty word read": mistake("you read a place all the same", empty="read"),
        "empty word takes a place": mistake("takes a place, so that", step="at least one"),
        "empty word like the one before": mistake("gets the tag of the word before", empty="before"),
        "always O": mistake("gets O in your answer whatever", usual_tag="O"),
        "always the first tag": mistake("gets the first of the tags", usual_tag="first"),
        "input changed": mistake("changes its second argument in place", inputs="changed"),
    },
    two_at_once=(dict(which="last", empty="read"), "last piece"),
)


# ---- 14.2: only what is legal ------------------------------------------------------------------------------


def follows(before, tag, rule):
    """Whether `tag` may stand behind `before`; "" is before the first word."""
    if tag[0] != "I" or (before == "" and rule == "free start"):
        return True
    if rule == "any kind":
        return before not in ("", "O")
    if rule == "after B":
        return before == "B-" + tag[2:]
    return before[2:] == tag[2:]


def by_arrays(rule="right", search="best sums", result="names", backwards=True):
    """Kept sums and notes in NumPy."""

    def best_legal(scores, tag_names):
        allowed = np.array([[follows(before, tag, rule) for tag in tag_names] for before in tag_names])
        start = np.array([follows("", tag, rule) for tag in tag_names])
        step = np.where(allowed, 0.0, -np.inf)  # (C before, C now)
        if search == "each alone":
            path = scores.argmax(axis=1).tolist()
        elif search == "mended":
            path = scores.argmax(axis=1).tolist()
            for place, tag in enumerate(path):
                before = tag_names[path[place - 1]] if place else ""
                if not follows(before, tag_names[tag], rule):
                    path[place] = tag_names.index("B" + tag_names[tag][1:])
        elif search == "from the left":
            path = [int(np.where(start, scores[0], -np.inf).argmax())]
            for row in scores[1:]:
                path.append(int((row + step[path[-1]]).argmax()))
        elif search == "from the right":
            path = [int(scores[-1].argmax())]
            for place in range(len(scores) - 2, -1, -1):
                row = scores[place] + step[:, path[0]]
                path.insert(0, int((row if place else np.where(start, row, -np.inf)).argmax()))
        elif search == "all":
            path, best = None, -math.inf
            for tags in itertools.product(range(len(tag_names)), repeat=len(scores)):
                legal = start[tags[0]] and allowed[tags[:-1], tags[1:]].all()
                total = scores[range(len(tags)), tags].sum()
                if legal and total > best:
                    path, best = list(tags), total
        else:
            sums, notes = np.where(start, scores[0], -np.inf), []
            largest = [int(sums.argmax())]
            for row in scores[1:]:
                ways = sums[:, None] + step
                notes.append(ways.argmax(axis=0))
                sums = ways.max(axis=0) + row
                largest.append(int(sums.argmax()))
            path = [largest[-1]]
            for note in reversed(notes):
                path.append(int(note[path[-1]]))
            if backwards:
                path.reverse()
            if search == "no notes":
                path = largest
        return path if result == "numbers" else [tag_names[tag] for tag in path]

    return best_legal


def by_paths(rule="right", search="best sums", result="names", backwards=True):
    """Keeps, for each tag, the whole best sequence that ends in it."""

    def best_legal(scores, tag_names):
        rows = [dict(zip(tag_names, row)) for row in scores.tolist()]

        def legal(path):
            return all(follows(*pair, rule) for pair in zip(["", *path], path))

        def total(path):
            return sum(row[tag] for row, tag in zip(rows, path))

        if search == "all":
            paths = itertools.product(tag_names, repeat=len(rows))
            best = list(max(filter(legal, paths), key=total))
        elif search == "each alone":
            best = [max(row, key=row.get) for row in rows]
        elif search == "mended":
            best = []
            for row in rows:
                tag = max(row, key=row.get)
                best.append(tag if legal([*best, tag]) else tag.replace("I-", "B-"))
        elif search == "from the left":
            best = []
            for row in rows:
                best.append(max((tag for tag in row if legal([*best, tag])), key=row.get))
        elif search == "from the right":
            best = []
            for place in reversed(range(len(rows))):
                before = [""] if place == 0 else []
                ways = [tag for tag in tag_names if all(
                    follows(*pair, rule) for pair in itertools.pairwise([*before, tag, *best]))]  # fmt: skip
                best.insert(0, max(ways, key=rows[place].get))
        else:
            kept, largest = {"": []}, []
            for _ in rows:
                kept = {
                    tag: max(
                        ([*path, tag] for before, path in kept.items() if follows(before, tag, rule)),
                        key=total,
                        default=None,
                    )
                    for tag in tag_names
                }
                kept = {tag: path for tag, path in kept.items() if path}
                largest.append(max(kept.values(), key=total)[-1])
            best = largest if search == "no notes" else max(kept.values(), key=total)
            if not backwards:
                best = best[::-1]
        return [tag_names.index(tag) for tag in best] if result == "numbers" else best

    return best_legal


def with_memory(scores, tag_names):
    """Top down: the best sequence from a word on, behind a given tag."""
    import functools

    @functools.cache
    def best_from(word, before):
        if word == len(scores):
            return 0.0, ()
        return max(
            (scores[word][number] + best_from(word + 1, tag)[0], (tag, *best_from(word + 1, tag)[1]))
            for number, tag in enumerate(tag_names)
            if not tag.startswith("I") or before[1:] == tag[1:]
        )

    return list(best_from(0, "O")[1])


class BestLegal(nn.Module):
    def forward(self, scores, tag_names):
        scores = torch.as_tensor(scores)
        legal = torch.tensor([[t[0] != "I" or b[2:] == t[2:] for t in tag_names] for b in tag_names])
        cost = torch.zeros(legal.shape, dtype=scores.dtype).masked_fill(~legal, -1e9)
        best, back = scores[0] + cost[tag_names.index("O")], []
        for row in scores[1:]:
            top, where = (best.unsqueeze(1) + cost).max(0)
            best = top + row
            back.append(where)
        tag = best.argmax()
        tags = [tag]
        while back:
            tag = back.pop()[tag]
            tags.append(tag)
        return [tag_names[int(tag)] for tag in tags[::-1]]


LEGAL = Answers(
    "best_legal",
    styles={"arrays": by_arrays, "paths": by_paths},
    right={"memory": with_memory, "module": BestLegal()},
    wrong={
        "each word alone": mistake("the best tag of each word by itself", search="each alone"),
        "mended afterwards": mistake("You mend what is illegal", search="mended"),
        "from left to right": mistake("You go from the first word", search="from the left"),
        "from right to left": mistake("You go from the last word", search="from the right"),
        "no notes": mistake("You keep the right sums, but", search="no notes"),
        "tries all": mistake("more sequences than anyone can try", search="all"),
        "I at the beginning": mistake("Your sequence begins with an I", rule="free start"),
        "any kind goes on": mistake("follows a name of another kind", rule="any kind"),
        "I only behind B": mistake("a name may have more than two words", rule="after B"),
        "numbers, not names": mistake("the numbers of the tags", result="numbers"),
        "from behind": mistake("from the last word to the first:", backwards=False),
    },
    two_at_once=(dict(rule="any kind", result="numbers"), "numbers, not names"),
)


# ---- 14.3: a score that is too good to be true -------------------------------------------------------------


def written_out(gold=None, predicted=None):
    """Both sides as they are."""

    def counterexample():
        return gold or [["B-person"], ["O"]], predicted or [["O"], ["B-person"]]

    return counterexample


def built(gold=None, predicted=None):
    """Puts a name into a file in which there was none; other kinds, tuples for lists."""
    other = {"B-person": "B-place", "I-person": "I-place", "B-place": "B-time"}

    def renamed(side):
        return [
            other.get(tags, tags) if isinstance(tags, str) else tuple(other.get(tag, tag) for tag in tags)
            for tags in side
        ]

    def counterexample():
        sides = []
        for given, place in ((gold, 0), (predicted, 1)):
            side = [["O"] for _ in range(2)]
            side[place][0] = "B-" + "person"
            sides.append(renamed(given) if given else side)
        return sides

    return counterexample


def an_i_alone():
    """An I that goes on with nothing begins a name too."""
    name, nothing = ["I-x"], ["O"]
    return (name, nothing), [nothing, name]


class Counterexample:
    def __call__(self):
        return tuple([[tag] for tag in order] for order in (("O", "B-time"), ("B-time", "O")))


COUNTEREXAMPLE = Answers(
    "counterexample",
    styles={"written out": written_out, "built": built},
    right={"an I": an_i_alone, "object": Counterexample()},
    wrong={
        "one sentence": mistake(
            "A single sentence shows nothing", gold=[["B-person", "O"]], predicted=[["O", "B-person"]]
        ),
        "no name": mistake("There is no name on either side", gold=[["O"], ["O"]], predicted=[["O"], ["O"]]),
        "really found": mistake(
            "all names were really found",
            gold=[["B-person"], ["B-place"]],
            predicted=[["B-person"], ["B-place"]],
        ),
        "half found": mistake(
            "The true F1 is 0.67",
            gold=[["B-person"], ["B-person"]],
            predicted=[["O"], ["B-person"]],
        ),
        "other kinds": mistake(
            "The colleague's F1 is 0.00", gold=[["B-person"], ["O"]], predicted=[["O"], ["B-place"]]
        ),
        "one sentence without its brackets": mistake(
            "where a sentence is expected", gold=["B-person", "O"], predicted=["O", "B-person"]
        ),
        "a prediction missing": mistake(
            "a prediction belongs to each sentence", gold=[["B-person"], ["O"]], predicted=[["B-person"]]
        ),
        "a word missing": mistake(
            "a word has one of each", gold=[["B-person"], ["O"]], predicted=[["O", "O"], ["B-person"]]
        ),
        "more sentences than needed": mistake(
            "Fewer are enough",
            gold=[["B-person"], ["O"], ["O"]],
            predicted=[["O"], ["O"], ["B-person"]],
        ),
        "more words than needed": mistake(
            "with fewer words",
            gold=[["B-person", "I-person"], ["O", "O"]],
            predicted=[["O", "O"], ["B-person", "I-person"]],
        ),
    },
    two_at_once=(
        dict(gold=["B-person"], predicted=[["O"], ["B-person"]]),
        "one sentence without its brackets",
    ),
)

ANSWERS = (READ, LEGAL, COUNTEREXAMPLE)
