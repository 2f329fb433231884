"""Exercises of chapter 9, the data of pre-training: what does it learn from?"""

import functools
import itertools
import math
import random
import statistics

import torch
from torch import Tensor

from .engine import Exercise, expect_data
from .sandbox import NotYet, Wrong

# ---- 9.1 ---------------------------------------------------------------------------------------------------


def cut(answer, first: list[int], second: list[int], room: int, seed: int) -> dict:
    """A driver: the two lists, and the generator's next draw, which tells how many were made."""
    generator = torch.Generator().manual_seed(seed)
    found = answer(first, second, room, generator)
    return {"found": found, "next": torch.rand(4, generator=generator)}


def cut_in_two(answer, first, second, room, seed) -> dict:
    """What the answer does, once it has returned two lists of ids."""
    seen = answer.via(cut, first, second, room, seed)
    found = seen["found"]
    if found is None:
        raise NotYet("It returns None.")
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise Wrong("The result must be two lists, the shortened `first` and the shortened `second`.")
    for ids in found:
        if not isinstance(ids, list) or not all(type(token_id) is int for token_id in ids):
            raise Wrong("Each of the two results must be a list of ids, and yours is something else.")
    return seen


def lengths_kept(first: int, second: int, room: int) -> list[int]:
    """How many tokens each list keeps."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return [first, second]


def coins(count: int, generator: torch.Generator) -> int:
    """How many of the tokens to give up are taken from the front."""
    return int((torch.rand(count, generator=generator) < 0.5).sum()) if count else 0


def right_cut(first, second, room, seed) -> list[list[int]]:
    generator, result = torch.Generator().manual_seed(seed), []
    for ids, kept in zip((first, second), lengths_kept(len(first), len(second), room)):
        front = coins(len(ids) - kept, generator)
        result.append(ids[front : front + kept])
    return result


def two_lists(first: int, second: int) -> tuple[list[int], list[int]]:
    return list(range(100, 100 + first)), list(range(200, 200 + second))


def nothing_to_cut(answer, draw):
    """two lists that fit stay as they are"""
    first, second = two_lists(4, 3)
    for room in (9, 7):
        found = cut_in_two(answer, first, second, room, 0)["found"]
        if room == 7 and sum(map(len, found)) < 7:
            raise Wrong("4 and 3 ids are exactly 7: they fit, and you cut all the same.")
        expect_data(
            found,
            [first, second],
            f"Lists of 4 and 3 ids fit into {room}, so nothing is to be cut.",
            suspects={"The two lists have changed places.": [second, first]},
        )


def how_many(answer, draw):
    """the longer one gives up a token, of two equal ones the second"""
    for (a, b), room in (((12, 8), 14), ((8, 12), 14), ((9, 4), 6)):
        found = cut_in_two(answer, *two_lists(a, b), room, 1)["found"]
        half, part = (a + b - room) // 2, room * a // (a + b)
        rule = "It is the *longer* one that gives up a token, each time."
        expect_data(
            [len(ids) for ids in found],
            lengths_kept(a, b, room),
            f"From {a} and {b} ids {room} must be left. These are the lengths.",
            suspects={
                f"All comes from the second list. {rule}": [a, room - a],
                f"All comes from the first list. {rule}": [room - b, b],
                f"Both give up the same number. {rule}": [a - half, room - a + half],
                f"Both are cut in proportion. {rule}": [part, room - part],
            },
        )
    found = cut_in_two(answer, *two_lists(6, 6), 7, 1)["found"]
    expect_data(
        [len(ids) for ids in found],
        [4, 3],
        "From 6 and 6 ids 7 must be left. These are the lengths.",
        suspects={"Of two equal lists the second gives up a token; with you it is the first.": [3, 4]},
    )


def one_stretch(answer, draw):
    """what stays is one stretch, in its order"""
    for seed in range(3):
        for ids in cut_in_two(answer, *two_lists(12, 11), 13, seed)["found"]:
            if ids != list(range(ids[0], ids[0] + len(ids))):
                raise Wrong(
                    "Tokens are taken from the front and from the back, so what stays is one stretch of the "
                    f"text. In yours, {ids}, some are missing in the middle, or they are in another order."
                )


def where_from(answer, draw):
    """each token from the front with probability one half"""
    first, second = two_lists(30, 29)
    kept = lengths_kept(30, 29, 29)
    seeds = draw.whole(0, 10**6, 12).tolist()
    fronts = []  # of the first list, by the answer
    for seed in seeds:
        found = cut_in_two(answer, first, second, 29, seed)["found"]
        fronts.append(found[0][0] - 100)
    surplus = 30 - kept[0]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    right = [coins(surplus, generator) for generator in generators]
    if fronts == right:
        return
    if fronts == [0] * len(seeds):
        raise Wrong(
            "All tokens are taken from the back; each should come from the front or the back by chance."
        )
    if fronts == [surplus] * len(seeds):
        raise Wrong(
            "All tokens are taken from the front; each should come from the front or the back by chance."
        )
    if set(fronts) <= {0, surplus}:
        raise Wrong(
            "One draw decides for the whole list: all from the front, or all from the back. Each token that "
            "is given up has a draw of its own."
        )
    if fronts == [surplus - front for front in right]:
        raise Wrong("Front and back have changed places: a number below 0.5 means the front.")
    after = [coins(surplus, generator) for generator in generators]
    if fronts == after:
        raise Wrong("You draw for the second list first. The first list comes first.")
    raise Wrong(
        "How many come from the front is not what the generator says: draw `torch.rand(surplus, "
        "generator=generator) < 0.5` for the first list, with the generator that you are given, and count."
    )


def second_list_too(answer, draw):
    """both lists, with the draws of each"""
    first, second = two_lists(17, 21)
    for seed in draw.whole(0, 10**6, 6).tolist():
        expect_data(
            cut_in_two(answer, first, second, 20, seed)["found"],
            right_cut(first, second, 20, seed),
            "The first list is right; the second has draws of its own, which come after those of the first.",
        )


def no_draw_too_many(answer, draw):
    """a list that gives up nothing draws nothing"""
    for sizes, room in (((4, 3), 8), ((4, 12), 9), ((12, 4), 9)):
        first, second = two_lists(*sizes)
        seen = cut_in_two(answer, first, second, room, 5)
        generator = torch.Generator().manual_seed(5)
        torch.rand(max(0, sum(sizes) - room), generator=generator)
        is_right = as_lists(seen["found"]) == right_cut(first, second, room, 5)
        if not is_right or not torch.equal(seen["next"], torch.rand(4, generator=generator)):
            raise Wrong(
                "The generator is not where it should be. One number is drawn for each token that is given "
                "up, and none for a list that gives up nothing: whoever draws next depends on it."
            )


def as_lists(found) -> list:
    return [list(ids) for ids in found]


CUT = Exercise(
    name="cut_to_fit",
    number="9.1",
    title="from the longer side",
    kind="Rebuild",
    minutes=15,
    difficulty=1,
    goal="Two lists of ids, room for so many, and a generator -> the two lists, shortened to fit as the "
    "package's `truncated` does it.",
    hints=(
        "Two separate questions: how many tokens does each list keep? And then, which ones?",
        "For the first, two numbers and a `while` loop are enough. Touch no list in it.",
        "If `front` of the surplus tokens go at the front, what stays is `ids[front : front + kept]`.",
    ),
    stub='''
def cut_to_fit(first, second, room, generator):
    """Two lists of ids, the most that may stay of both, a torch.Generator -> two lists of ids."""
    ...
''',
    mechanisms=(nothing_to_cut, how_many, one_stretch, where_from, second_list_too, no_draw_too_many),
    finished=("bert_edu.data.pretraining",),
)


# ---- 9.2 ---------------------------------------------------------------------------------------------------

SPECIAL = torch.tensor([0, 101, 102, 103])
LENGTHS = range(1, 11)
ROWS = 1000  # of which `usual_runs` takes the mean
SHARES = tuple(0.8**length for length in LENGTHS)


def choose_many(answer, rows: list[Tensor], seed: int) -> list:
    """A driver: what is chosen in each row, with one generator for all; chance of other kinds begins anew."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(1)
    random.seed(1)
    return [answer(row, SPECIAL, generator) for row in rows]


def chosen(answer, rows: list[Tensor], seed: int) -> list[list[bool]]:
    """The answer's choices, once they are of the right kind."""
    found = answer.via(choose_many, rows, seed)
    for row, choice in zip(rows, found):
        if choice is None:
            raise NotYet("It returns None.")
        if not isinstance(choice, Tensor) or choice.dtype != torch.bool or choice.shape != row.shape:
            kind = (
                f"{choice.dtype} of shape {tuple(choice.shape)}"
                if isinstance(choice, Tensor)
                else type(choice).__name__
            )
            raise Wrong(f"The result must be a bool tensor of shape {tuple(row.shape)}, and yours is {kind}.")
    return [choice.tolist() for choice in found]


def make_row(*stretches: int) -> Tensor:
    """[CLS], then stretches of ordinary ids, each with a [SEP] behind it."""
    ids = [101]
    for length in stretches:
        ids += [*range(1000, 1000 + length), 102]
    return torch.tensor(ids)


def budget(T: int) -> int:
    return max(1, round(0.15 * T))


def right_choice(stretches, T: int, dice: random.Random, weights) -> list[bool]:
    """Spans as the task says, with Python's chance. Places are the bits of a number."""
    free = 2**T - 2
    for place in itertools.accumulate(length + 1 for length in stretches):
        free &= ~(1 << place)
    before, room = free, budget(T)
    while room:
        length = min(room, dice.choices(LENGTHS, weights)[0])
        while not (fits := functools.reduce(int.__and__, (free >> k for k in range(length)))):
            length -= 1
        start = dice.choice([place for place in range(T) if fits >> place & 1])
        free &= ~((2**length - 1) << start)
        room -= length
    return [bool((before ^ free) >> place & 1) for place in range(T)]


def runs(choice: list[bool]) -> int:
    """How many runs of chosen places there are."""
    return sum(now and not before for before, now in zip([False, *choice], choice))


@functools.cache
def usual_runs(stretches: tuple[int, ...], weights: tuple[float, ...] = SHARES) -> tuple[float, float]:
    """Mean and standard deviation of the number of runs in a row."""
    T, dice = sum(stretches) + len(stretches) + 1, random.Random(0)
    numbers = [runs(right_choice(stretches, T, dice, weights)) for _ in range(ROWS)]
    return statistics.mean(numbers), statistics.pstdev(numbers)


def are_usual(choices: list[list[bool]], mean: float, sd: float) -> bool:
    """Whether these rows have as many runs as usual, give or take chance (4 sigma)."""
    n = len(choices)
    found = sum(map(runs, choices)) / n
    return abs(found - mean) <= 4 * sd * math.sqrt(1 / n + 1 / ROWS) + 1e-9


def how_many_places(answer, draw):
    """as many places as BERT's rule says"""
    rows = make_row(1), make_row(28), make_row(32, *[1] * 8), make_row(62, 63)
    for row in rows:
        T, ordinary = len(row), int((~torch.isin(row, SPECIAL)).sum())
        counts = {sum(choice) for choice in chosen(answer, [row] * 6, T)}
        if counts == {budget(T)}:
            continue
        reasons = [
            (0, "At least one always is."),
            (int(0.15 * T), "You cut the number off: round it."),
            (round(0.15 * ordinary), "You take 15 % of the ordinary tokens; the special ones count too."),
            (
                int(0.15 * T + 0.5),
                "Half is rounded to the even number, as Python's `round` does it: 4.5 is 4.",
            ),
        ]
        other = (
            "A span is at most as long as what is left of the budget."
            if max(counts) > budget(T)
            else "Does each span count what it adds, or can two of them overlap?"
        )
        said = next((said for wrong, said in reasons if counts == {wrong}), other)
        raise Wrong(
            f"Of {T} tokens {budget(T)} must be chosen, and you choose "
            f"{' or '.join(map(str, sorted(counts)))}. {said}"
        )


def no_special_token(answer, draw):
    """never a special token"""
    row = make_row(5, 4, 6, 3, 5)
    special = torch.isin(row, SPECIAL).tolist()
    for choice in chosen(answer, [row] * 40, draw.whole(0, 999).item()):
        if any(picked and closed for picked, closed in zip(choice, special)):
            raise Wrong(
                "A special token is chosen. A span must not begin on one, end on one or run over one: all of "
                "its places must be free."
            )


def every_place(answer, draw):
    """every place may be chosen, the first and the last too"""
    row, count = make_row(7), 140  # one of seven
    choices = chosen(answer, [row] * count, draw.whole(0, 999).item())
    times = [sum(choice[place] for choice in choices) for place in range(1, 8)]
    usual = count / 7
    spread = 4.5 * math.sqrt(usual * 6 / 7)
    if times[-1] == 0 and min(times[:-1]) > 0:
        raise Wrong(
            "The last place before [SEP] is never chosen. In a row of T tokens a span of `length` has T - "
            "length + 1 places to start at; look at the end of your range."
        )
    if max(times) == count:
        raise Wrong("It is always the same place. The start is drawn among all places where the span fits.")
    if any(abs(number - usual) > spread for number in times):
        raise Wrong(
            f"One of seven places is chosen, {count} times; each should come up about {usual:.0f} times, and "
            f"yours come up {', '.join(map(str, times))} times. All places where the span fits are alike."
        )


OTHER_LENGTHS = {
    "All spans have one token: draw a length for each.": (1, *[0] * 9),
    "All lengths from 1 to 10 come up alike. Their probabilities fall, in proportion to 0.8 ** length.": (1,)
    * 10,
    "The lengths grow where they should fall: 0.8 ** length is largest for length 1.": SHARES[::-1],
    "`torch.multinomial` gives an *index*, and index 0 is length 1: you count from 2.": (0, *SHARES[:-1]),
    "All spans are as long as can be: draw a length for each.": (*[0] * 9, 1),
}


def the_lengths(answer, draw):
    """the lengths of the spans"""
    stretches = (62, 63)
    choices = chosen(answer, [make_row(*stretches)] * 130, draw.whole(0, 999).item())
    if are_usual(choices, *usual_runs(stretches)):
        return
    found = sum(map(sum, choices)) / sum(map(runs, choices))
    right = budget(128) / usual_runs(stretches)[0]
    numbers = {said: usual_runs(stretches, weights)[0] for said, weights in OTHER_LENGTHS.items()}
    mean = sum(map(runs, choices)) / len(choices)
    nearest = min(numbers, key=lambda said: abs(numbers[said] - mean))
    is_it = are_usual(choices, *usual_runs(stretches, OTHER_LENGTHS[nearest]))
    raise Wrong(
        f"A run of chosen places is {found:.1f} long on average, and should be about {right:.1f}: draw 1 to "
        f"10 with weights 0.8, 0.8 squared, and so on. {nearest if is_it else ''}".rstrip()
    )


def the_last_span(answer, draw):
    """a span is cut to what is left of the budget"""
    row, count = make_row(12), 120  # T = 14: two places
    choices = chosen(answer, [row] * count, draw.whole(0, 999).item())
    together = sum(runs(choice) == 1 for choice in choices) / count
    alone = SHARES[0] / sum(SHARES)  # two spans of one each, by chance side by side
    side_by_side = (2 * 1 / 11 + 10 * 2 / 11) / 12

    def share(first_is_one):
        return 1 - first_is_one * (1 - side_by_side)

    right, redrawn = share(alone), share(SHARES[0] / sum(SHARES[:2]))
    spread = 4.5 * math.sqrt(right * (1 - right) / count)
    if abs(together - right) <= spread:
        return
    if abs(together - redrawn) > spread:
        the_lengths(answer, draw)
    raise Wrong(
        "With two places left, every length above one becomes two. The two should lie side by side in about "
        f"{right:.0%} of the rows, and do in {together:.0%}: it seems that you draw again until the length "
        "fits."
    )


def fits_nowhere(answer, draw):
    """a span that fits nowhere becomes shorter by one"""
    stretches = (3,) * 11  # T = 45: seven places
    choices = chosen(answer, [make_row(*stretches)] * 80, draw.whole(0, 999).item())
    mean, sd = usual_runs(stretches)
    if any(sum(choice) != 7 for choice in choices):
        raise Wrong(
            "In stretches of three tokens you choose too few: a span that fits nowhere is made shorter by "
            "one, not given up."
        )
    if not are_usual(choices, mean, sd):
        raise Wrong(
            "In stretches of three tokens most lengths fit nowhere, and become three, step by step: about "
            f"{mean:.1f} runs in a row. Yours have {sum(map(runs, choices)) / 80:.1f}. Make a span that does "
            "not fit shorter by one and look again; do not draw another length."
        )


def by_the_generator(answer, draw):
    """the generator decides, and nothing else"""
    how_many_places(answer, draw)
    rows = [make_row(62, 63)] * 3
    first, again, other = (chosen(answer, rows, seed) for seed in (1, 1, 2))
    if first != again:
        raise Wrong("The same seed gives other spans the second time: draw with the generator that is given.")
    if first == other:
        raise Wrong("Another seed gives the same spans: draw with the generator that is given.")


SPANS = Exercise(
    name="choose_spans",
    number="9.2",
    title="hide whole spans",
    kind="Extend",
    minutes=25,
    difficulty=3,
    goal="The ids of one input (T,), the special ids, and a generator -> a `bool` tensor (T,), True for the "
    "chosen places: spans of 1 to 10 tokens, as many places in all as BERT's rule says.",
    hints=(
        "`torch.multinomial(weights, 1, generator=generator)` draws an index with these weights. Index 0 is "
        "length 1.",
        "Keep a `bool` tensor `free`. After each span set its positions to False.",
        "`free.unfold(0, length, 1)` is (T - length + 1, length): every window of this length. A window fits "
        "where `.all(1)`.",
    ),
    stub='''
def choose_spans(row, special, generator):
    """The ids of one input (T,), the special ids (a tensor), a torch.Generator -> bool (T,)."""
    ...
''',
    mechanisms=(
        how_many_places,
        no_special_token,
        every_place,
        the_last_span,
        the_lengths,
        fits_nowhere,
        by_the_generator,
    ),
)


# ---- 9.3 ---------------------------------------------------------------------------------------------------

MASK = 103


def masked_rows(*rows: str) -> tuple[Tensor, Tensor, Tensor]:
    """ids, masked and labels from rows of fates.

    "m": hidden, "k": kept, "r": replaced, "s": replaced by always the same word, ".": not chosen.
    """
    T = max(map(len, rows))
    ids = torch.arange(len(rows) * T).view(len(rows), T) + 1000
    masked, labels = ids.clone(), torch.full_like(ids, -100)
    for b, row in enumerate(rows):
        for t, fate in enumerate(row):
            if fate != ".":
                labels[b, t] = ids[b, t]
            if fate == "m":
                masked[b, t] = MASK
            if fate == "r":
                masked[b, t] = 5000 + 7 * b + 31 * t  # another word each time
            if fate == "s":
                masked[b, t] = 4000
    return ids, masked, labels


def counted(answer, *rows: str) -> list[int]:
    """The two numbers that the answer gives for these rows."""
    found = answer(*masked_rows(*rows), MASK)
    if found is None:
        raise NotYet("It returns None.")
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise Wrong(
            "The result must be two numbers: rows whose first two are alike, and rows with two at all."
        )
    numbers = []
    for number in found:
        if isinstance(number, Tensor) and number.numel() == 1:
            number = number.item()
        if not isinstance(number, (int, float)):
            raise Wrong(f"The two results must be numbers, and one is of type {type(number).__name__}.")
        numbers.append(number)
    return numbers


def both_hidden(answer, draw):
    """two hidden tokens are alike"""
    found = counted(answer, "mm....", "mm....", "mk....")
    expect_data(
        found,
        [2, 3],
        "In three rows, of two tokens each, twice both are hidden, and once only the first of them.",
        suspects={
            "These are two shares. Return the two counts: `wilson` needs to know of how many.": [2 / 3, 1.0],
            "The two numbers have changed places: first the rows that are alike, then all "
            "rows that have two.": [3, 2],
            "You count the rows whose two tokens had *different* fates.": [1, 3],
        },
    )


def both_kept(answer, draw):
    """two kept tokens are alike, and so are two replaced ones"""
    expect_data(
        counted(answer, "kk....", "kk....", "rr....", "rr....", "rr....", "ss...."),
        [6, 6],
        "Two kept tokens had the same fate, and so had two replaced ones, whatever words they show.",
        suspects={
            "You compare the words that are shown. Two replaced tokens show different words, and had the "
            "same fate.": [1, 6],
            "You count two hidden tokens alone. Two kept ones are alike as well, and two replaced ones.": [
                0,
                6,
            ],
        },
    )


def three_fates(answer, draw):
    """three fates, not two"""
    expect_data(
        counted(answer, "mk....", "km....", "mr....", "kr....", "rk...."),
        [0, 5],
        "In five rows the first two tokens had different fates.",
        suspects={
            "Kept and replaced are one to you: both do not show [MASK]. They are two different fates.": [
                2,
                5,
            ],
            "Hidden and replaced are one to you: both show something else than before. They are two "
            "different fates.": [1, 5],
        },
    )


def chosen_ones_alone(answer, draw):
    """tokens between that were not chosen"""
    expect_data(
        counted(answer, "m..m..", "r...r.", ".rr..."),
        [3, 3],
        "Between two chosen tokens there may be others, which nobody asks for.",
        suspects={
            "You look at fixed places of the row. Take the first two *chosen* tokens, those with a label, "
            "wherever they are.": [0, 3],
        },
    )


def fewer_than_two(answer, draw):
    """rows with fewer than two"""
    found = counted(answer, "m.....", "......", "k..k..", "..r...", "m...r.")
    expect_data(
        found,
        [1, 2],
        "Of five rows two have two chosen tokens; the others have one or none.",
        suspects={
            "You count all rows. A row with fewer than two chosen tokens says nothing: leave it out.": [1, 5],
            "A row with a single chosen token counts as a row with two.": [1, 4],
            "A row with a single chosen token counts as alike.": [3, 4],
            "Rows with fewer than two chosen tokens count as alike.": [4, 5],
        },
    )


def the_first_two(answer, draw):
    """the first two, whatever comes after"""
    expect_data(
        counted(answer, "mmk...", "mm.m.r", "kmm...", "rkk...", "mkm...", "kk.k.k", "rrm..."),
        [4, 7],
        "The third token and those after it have no say. Of seven rows, the first two are alike in four.",
        suspects={
            "You ask whether *all* chosen tokens of a row are alike. The first two are asked for.": [1, 7],
            "You count every pair of neighbours, so that a row counts more than once.": [9, 16],
            "You compare the first chosen token with the last; the first two are asked for.": [2, 7],
            "You compare the last two chosen tokens; the first two are asked for.": [3, 7],
        },
    )


def many_rows(answer, draw):
    """many rows at once"""
    letters = [".mkr"[number] for number in draw.whole(0, 3, 40 * 9).tolist()]
    rows = ["".join(letters[start : start + 9]) for start in range(0, 360, 9)]
    firsts = [row.replace(".", "")[:2] for row in rows]
    two = [pair for pair in firsts if len(pair) == 2]
    expect_data(
        counted(answer, *rows),
        [sum(pair[0] == pair[1] for pair in two), len(two)],
        "A few rows were right; forty at once are not.",
    )


ALIKE = Exercise(
    name="alike",
    number="9.3",
    title="near enough",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="The ids before and after masking, the labels, (B, T) each, and the id of [MASK] -> in how many "
    "rows the first two chosen tokens had the same fate (hidden, kept or replaced), and how many rows "
    "have two.",
    hints=(
        "Print ten masked rows, and read along them rather than down.",
        "How many fates are drawn? How many tokens are there?",
        "Two independent tokens have the same fate with probability $0.8^2 + 0.1^2 + 0.1^2$. For the first "
        "two of a row, number the chosen ones with `cumsum(1)`.",
    ),
    stub='''
def alike(ids, masked, labels, mask_id):
    """(B, T) three times and a number -> rows whose first two are alike, rows that have two."""
    ...
''',
    mechanisms=(
        both_hidden,
        both_kept,
        three_fates,
        chosen_ones_alone,
        fewer_than_two,
        the_first_two,
        many_rows,
    ),
)

EXERCISES = (CUT, SPANS, ALIKE)
