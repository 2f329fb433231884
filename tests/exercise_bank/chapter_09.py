"""Answers to the exercises of chapter 9."""

import random

import torch
from torch import nn

from . import Answers, mistake

# ---- 9.1: cut from the longer side -------------------------------------------------------------------------


def by_lengths(
    equal="second", fair="longer", front_if="below", coins="each", order="first", draws="needed", leave=0
):
    """How many stay is worked out first, with two numbers."""

    def cut_to_fit(first, second, room, generator):
        kept, room = [len(first), len(second)], room - leave
        total, surplus = sum(kept), max(0, sum(kept) - room)
        if fair == "second" and surplus:
            kept[1] = room - kept[0]
        elif fair == "first" and surplus:
            kept[0] = room - kept[1]
        elif fair == "same" and surplus:
            kept = [kept[0] - surplus // 2, kept[1] - (surplus - surplus // 2)]
        elif fair == "proportion" and surplus:
            kept[0] = room * kept[0] // total
            kept[1] = room - kept[0]
        while sum(kept) > room:
            first_gives = kept[0] >= kept[1] if equal == "first" else kept[0] > kept[1]
            kept[0 if first_gives else 1] -= 1
        result, last = {}, torch.zeros(0)
        pairs = [("first", first, kept[0]), ("second", second, kept[1])]
        for name, ids, length in pairs if order == "first" else pairs[::-1]:
            gone = len(ids) - length
            if draws == "always" and gone == 0:
                torch.rand(1, generator=generator)
            below = torch.rand(gone, generator=generator) < 0.5 if gone else torch.zeros(0)
            if coins == "none, front":
                below = torch.ones(gone)
            elif coins == "none, back":
                below = torch.zeros(gone)
            elif coins == "one":
                below = below[:1].expand(gone)
            elif coins == "shared" and name == "second" and gone and len(last):
                below = last[torch.arange(gone) % len(last)]
            last = below
            front = int(below.sum())
            if front_if == "above":
                front = gone - front
            if coins == "anywhere":
                stay = torch.randperm(len(ids), generator=generator)[:length].sort().values
                result[name] = [ids[place] for place in stay]
            else:
                result[name] = ids[front : front + length]
        return result["first"], result["second"]

    return cut_to_fit


def token_by_token(
    equal="second", fair="longer", front_if="below", coins="each", order="first", draws="needed", leave=0
):
    """Each token that must go is put on a list; then they are popped from copies."""

    def cut_to_fit(first, second, room, generator):
        to_go = [0, 0]
        lengths = (len(first), len(second))
        surplus = lengths[0] + lengths[1] - room + leave
        for number in range(max(0, surplus)):
            left = [lengths[0] - to_go[0], lengths[1] - to_go[1]]
            if fair == "second" or (fair == "same" and number >= surplus // 2):
                which = 1
            elif fair in ("first", "same"):
                which = 0
            elif fair == "proportion":
                which = 0 if to_go[0] < lengths[0] - (room * lengths[0] // sum(lengths)) else 1
            else:
                which = 0 if left[0] > left[1] or (equal == "first" and left[0] == left[1]) else 1
            to_go[which] += 1
        copies, shared = [list(first), list(second)], []
        for which in (0, 1) if order == "first" else (1, 0):
            ids = copies[which]
            numbers = torch.rand(to_go[which], generator=generator).tolist() if to_go[which] else []
            if draws == "always" and not numbers:
                torch.rand(1, generator=generator)
            if coins == "shared" and shared:
                numbers = [shared[place % len(shared)] for place in range(len(numbers))]
            shared = numbers
            for number in numbers:
                draw = numbers[0] if coins == "one" else number
                from_front = draw < 0.5 if front_if == "below" else draw >= 0.5
                if coins == "anywhere":
                    ids.pop(len(ids) // 2)
                elif coins == "none, front" or (from_front and coins != "none, back"):
                    ids.pop(0)
                else:
                    ids.pop()
        return copies

    return cut_to_fit


class Cutter:
    """In closed form: no loop at all."""

    def __call__(self, first, second, room, generator):
        a, b = len(first), len(second)
        if a + b > room:
            long = (room + 1) // 2  # what the first may keep when both must be cut
            a, b = (room - b, b) if b <= room - long else (a, room - a) if a <= long else (long, room - long)
        return [self.trim(ids, kept, generator) for ids, kept in ((first, a), (second, b))]

    def trim(self, ids, kept, generator):
        start = 0
        if kept < len(ids):
            start = torch.rand(len(ids) - kept, generator=generator).lt(0.5).sum().item()
        return [ids[start + place] for place in range(kept)]


CUT = Answers(
    "cut_to_fit",
    styles={"by lengths": by_lengths, "token by token": token_by_token},
    right={"closed form": Cutter()},
    wrong={
        "room for one less": mistake("they fit, and you cut all the same", leave=1),
        "second alone": mistake("All comes from the second list", fair="second"),
        "first alone": mistake("All comes from the first list", fair="first"),
        "both the same": mistake("Both give up the same number", fair="same"),
        "in proportion": mistake("Both are cut in proportion", fair="proportion"),
        "first of equals": mistake("with you it is the first", equal="first"),
        "from the middle": mistake("some are missing in the middle", coins="anywhere"),
        "from the back": mistake("All tokens are taken from the back", coins="none, back"),
        "from the front": mistake("All tokens are taken from the front", coins="none, front"),
        "one coin": mistake("One draw decides for the whole list", coins="one"),
        "front and back swapped": mistake("Front and back have changed places", front_if="above"),
        "second list first": mistake("You draw for the second list first", order="second"),
        "the same draws for both": mistake("the second has draws of its own", coins="shared"),
        "always a draw": mistake("none for a list that gives up nothing", draws="always"),
    },
    two_at_once=(dict(equal="first", coins="none, back"), "first of equals"),
)


# ---- 9.2: spans --------------------------------------------------------------------------------------------


def windows(
    share="with specials",
    rounding="even",
    least=1,
    lengths="falling",
    start="any",
    last=True,
    cap=True,
    specials="never",
    no_place="shorter",
    overlap=False,
    chance="generator",
):
    """All windows of a length at once."""

    def choose_spans(row, special, generator):
        generator = generator if chance == "generator" else None
        is_special = torch.isin(row, special)
        free, chosen = ~is_special, torch.zeros(len(row), dtype=torch.bool)
        T = len(row) if share == "with specials" else int(free.sum())
        room = {"even": round(0.15 * T), "down": int(0.15 * T), "half up": int(0.15 * T + 0.5)}[rounding]
        room = max(least, room)
        number = torch.arange(1.0, 11.0)
        weights = {
            "falling": 0.8**number,
            "growing": 0.8 ** (11 - number),
            "alike": torch.ones(10),
            "one": (number == 1).float(),
            "ten": (number == 10).float(),
            "from 2": 0.8**number,
        }[lengths]
        while room > 0:
            length = 1 + torch.multinomial(weights, 1, generator=generator).item() + (lengths == "from 2")
            if cap == "draw again":
                while length > room:
                    length = 1 + torch.multinomial(weights, 1, generator=generator).item()
            elif cap:
                length = min(length, room)
            length = min(length, len(row))
            open_to = ~chosen if specials == "too" else ~is_special if overlap else free
            fits = open_to.unfold(0, length, 1).all(1).nonzero().flatten()
            if no_place == "draw again":
                while len(fits) == 0:
                    length = min(room, 1 + torch.multinomial(weights, 1, generator=generator).item())
                    fits = open_to.unfold(0, length, 1).all(1).nonzero().flatten()
            if no_place == "give up" and len(fits) == 0:
                room -= length
                continue
            while len(fits) == 0:
                length -= 1
                fits = open_to.unfold(0, length, 1).all(1).nonzero().flatten()
            if not last and len(fits) > 1:
                fits = fits[:-1]
            place = fits[torch.randint(len(fits), (), generator=generator)] if start == "any" else fits[0]
            chosen[place : place + length] = True
            free[place : place + length] = False
            room -= length
        return chosen

    return choose_spans


def place_by_place(
    share="with specials",
    rounding="even",
    least=1,
    lengths="falling",
    start="any",
    last=True,
    cap=True,
    specials="never",
    no_place="shorter",
    overlap=False,
    chance="generator",
):
    """With lists, and lengths from the running sum of the weights."""

    def choose_spans(row, special, generator):
        def uniform():
            if chance != "generator":
                return random.random()
            return torch.rand(1, generator=generator).item()

        ids, forbidden = row.tolist(), set(special.tolist())
        T = len(ids)
        base = T if share == "with specials" else sum(one not in forbidden for one in ids)
        whole = int(0.15 * base)
        wanted = {"even": round(0.15 * base), "down": whole, "half up": int(0.5 + 0.15 * base)}[rounding]
        wanted = least if wanted < least else wanted
        taken = [False] * T

        def draw_length():
            if lengths == "one":
                return 1
            if lengths == "ten":
                return 10
            shares = [1.0 if lengths == "alike" else 0.8**k for k in range(1, 11)]
            if lengths == "growing":
                shares.reverse()
            point, length = uniform() * sum(shares), 1
            for one in shares:
                point -= one
                if point < 0:
                    break
                length += 1
            return min(length, 10) + (1 if lengths == "from 2" else 0)

        def may(place):
            allowed = specials == "too" or ids[place] not in forbidden
            return allowed and (overlap or not taken[place])

        def places(length):
            return [i for i in range(T - length + 1) if all(may(k) for k in range(i, i + length))]

        while wanted > 0:
            length = draw_length()
            while cap == "draw again" and length > wanted:
                length = draw_length()
            if cap and length > wanted:
                length = wanted
            length = min(length, T)
            starts = places(length)
            if not starts and no_place == "give up":
                wanted -= length
                continue
            while not starts:
                length = min(wanted, draw_length()) if no_place == "draw again" else length - 1
                starts = places(length)
            if not last:
                starts = starts[:-1] or starts
            begin = starts[int(uniform() * len(starts))] if start == "any" else starts[0]
            for k in range(begin, begin + length):
                taken[k] = True
            wanted -= length
        return torch.tensor(taken)

    return choose_spans


class SpanChooser(nn.Module):
    """Tries a start, and keeps it if it fits: all that fit are alike."""

    def forward(self, row, special, generator):
        T = row.numel()
        closed = (row[:, None] == special).any(1)
        chosen = torch.zeros(T).bool()
        lengths = torch.arange(1, 11)
        while (room := max(1, round(T * 0.15)) - int(chosen.sum())) > 0:
            pick = torch.multinomial(torch.exp(lengths * torch.tensor(0.8).log()), 1, generator=generator)
            length = min(room, lengths[pick].item())
            while True:
                taken = (closed | chosen).float()
                blocked = taken.unfold(0, length, 1).amax(1)  # (T - length + 1,)
                if blocked.min() == 0:
                    break
                length -= 1
            while True:
                start = int(torch.randint(0, T - length + 1, (1,), generator=generator))
                if not blocked[start]:
                    break
            chosen |= (torch.arange(T) >= start) & (torch.arange(T) < start + length)
        return chosen


SPANS = Answers(
    "choose_spans",
    styles={"windows": windows, "place by place": place_by_place},
    right={"module": SpanChooser()},
    wrong={
        "not at least one": mistake("At least one always is", least=0),
        "cut off": mistake("You cut the number off", rounding="down"),
        "without specials": mistake("the special ones count too", share="ordinary"),
        "half upwards": mistake("Half is rounded to the even number", rounding="half up"),
        "over the budget": mistake("as long as what is left of the budget", cap=False),
        "overlapping": mistake("can two of them overlap", overlap=True),
        "specials chosen": mistake("A special token is chosen", specials="too"),
        "given up": mistake("not given up", no_place="give up"),
        "last place never": mistake("The last place before [SEP]", last=False),
        "always the first place": mistake("It is always the same place", start="first"),
        "single tokens": mistake("All spans have one token", lengths="one"),
        "all lengths alike": mistake("All lengths from 1 to 10 come up alike", lengths="alike"),
        "growing": mistake("The lengths grow", lengths="growing"),
        "from 2": mistake("you count from 2", lengths="from 2"),
        "always ten": mistake("All spans are as long as can be", lengths="ten"),
        "last span drawn again": mistake("draw again until the length fits", cap="draw again"),
        "drawn again where nothing fits": mistake("do not draw another length", no_place="draw again"),
        "other chance": mistake("Another seed gives the same spans", chance="global"),
    },
    two_at_once=(dict(share="ordinary", lengths="one"), "without specials"),
)


# ---- 9.3: the first two ------------------------------------------------------------------------------------


def with_cumsum(
    fates="three", which="first two", rows="with two", chosen="labels", returns="counts", turned=False
):
    """All rows at once."""

    def alike(ids, masked, labels, mask_id):
        hidden, kept = masked == mask_id, masked == ids
        fate = torch.where(hidden, 0, torch.where(kept, 1, 2))  # (B, T)
        if fates == "hidden or not":
            fate = hidden.long()
        elif fates == "changed or not":
            fate = kept.long()
        elif fates == "words":
            fate = masked.clone()
        asked = labels != -100
        if chosen == "first places":
            asked = torch.zeros_like(asked)
            asked[:, :2] = True
        number = asked.cumsum(1) * asked
        if which == "last two":
            number = asked.flip(1).cumsum(1).flip(1) * asked
        several = asked.sum(1)
        same, total = 0, 0
        for row in range(len(ids)):
            mine = fate[row][number[row] > 0]
            if which == "last two":
                mine = mine.flip(0)
            if several[row] < 2:
                total += rows == "all" or (rows == "with one" and int(several[row]) == 1)
                continue
            total += 1
            if fates == "only hidden":
                same += bool((mine[:2] == 0).all())
            elif which == "all":
                same += len(mine.unique()) == 1
            elif which == "first and last":
                same += bool(mine[0] == mine[-1])
            elif which == "neighbours":
                same += int((mine[1:] == mine[:-1]).sum())
                total += len(mine) - 2
            else:
                same += bool(mine[0] == mine[1])
        if turned:
            same = total - same
        return {"counts": (same, total), "shares": (same / max(total, 1), 1.0), "swapped": (total, same)}[
            returns
        ]

    return alike


def row_by_row(
    fates="three", which="first two", rows="with two", chosen="labels", returns="counts", turned=False
):
    """With lists and words."""

    def alike(ids, masked, labels, mask_id):
        hits = cases = 0
        for before, after, label in zip(ids.tolist(), masked.tolist(), labels.tolist()):
            story = []
            for place, (old, new, wanted) in enumerate(zip(before, after, label)):
                if chosen == "labels" and wanted == -100:
                    continue
                if chosen == "first places" and place > 1:
                    break
                what = "hidden" if new == mask_id else "kept" if new == old else "other"
                if fates == "hidden or not" and what == "other":
                    what = "kept"
                if fates == "changed or not" and what == "hidden":
                    what = "other"
                if fates == "words":
                    what = str(new)
                story.append(what)
            if len(story) < 2:
                if rows == "all" or (rows == "with one" and story):
                    cases += 1
                continue
            pairs = [(story[0], story[1])]
            if which == "last two":
                pairs = [(story[-2], story[-1])]
            elif which == "first and last":
                pairs = [(story[0], story[-1])]
            elif which == "neighbours":
                pairs = list(zip(story, story[1:]))
            cases += len(pairs)
            if which == "all":
                hits += story.count(story[0]) == len(story)
            elif fates == "only hidden":
                hits += story[:2] == ["hidden", "hidden"]
            else:
                hits += sum(one == two for one, two in pairs)
        if turned:
            hits = cases - hits
        if returns == "swapped":
            return [cases, hits]
        return [hits / cases, cases / cases] if returns == "shares" else [hits, cases]

    return alike


def chapters_own(ids, masked, labels, mask_id):
    """The chapter's solution, without a loop."""
    fate = torch.where(masked == mask_id, 0, torch.where(masked == ids, 1, 2))
    number = (labels != -100).cumsum(1) * (labels != -100)
    two = number.max(1).values >= 2
    first, second = (fate[two][number[two] == place] for place in (1, 2))
    return (first == second).sum(), two.sum()


class Alike:
    def __call__(self, ids, masked, labels, mask_id):
        asked = labels.ne(-100)
        score = asked.float() * torch.arange(asked.shape[1], 0, -1)  # the first chosen has the most
        top, places = score.topk(2, dim=1)
        kind = (masked == mask_id) + 2 * (masked == ids).long()
        one, two = kind.gather(1, places).unbind(1)
        full = top[:, 1] > 0
        return int((full & (one == two)).sum()), int(full.sum())


ALIKE = Answers(
    "alike",
    styles={"cumsum": with_cumsum, "row by row": row_by_row},
    right={"without a loop": chapters_own, "topk": Alike()},
    wrong={
        "shares": mistake("These are two shares", returns="shares"),
        "swapped": mistake("The two numbers have changed places", returns="swapped"),
        "different ones": mistake("*different* fates", turned=True),
        "words": mistake("You compare the words that are shown", fates="words"),
        "hidden alone": mistake("You count two hidden tokens alone", fates="only hidden"),
        "hidden or not": mistake("Kept and replaced are one to you", fates="hidden or not"),
        "changed or not": mistake("Hidden and replaced are one to you", fates="changed or not"),
        "fixed places": mistake("You look at fixed places", chosen="first places"),
        "all rows": mistake("You count all rows", rows="all"),
        "one is enough": mistake("a single chosen token counts as a row with two", rows="with one"),
        "all of a row": mistake("*all* chosen tokens", which="all"),
        "neighbours": mistake("every pair of neighbours", which="neighbours"),
        "first and last": mistake("with the last; the first two", which="first and last"),
        "last two": mistake("You compare the last two", which="last two"),
    },
    two_at_once=(dict(fates="words", rows="all"), "words"),
)

ANSWERS = (CUT, SPANS, ALIKE)
