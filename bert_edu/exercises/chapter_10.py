"""Exercises of chapter 10, the objectives: what exactly is minimised?"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..config import BertConfig
from ..data.pretraining import Pair
from ..heads import IGNORE, MaskedLanguageModelHead
from ..model import BertModel
from .engine import Exercise, expect, tensor_of
from .sandbox import NotYet, Wrong

FLOAT64 = torch.float64


# ---- 10.1 --------------------------------------------------------------------------------------------------

H, V = 6, 131  # more words than 100, so that -100 is an index that exists


def draw_head(draw) -> dict[str, Tensor]:
    """The state dict of an MLM head, far from any initial value."""
    shapes = {
        "dense.weight": (H, H),
        "dense.bias": (H,),
        "norm.weight": (H,),
        "norm.bias": (H,),
        "bias": (V,),
    }
    return {name: draw.normal(*shape, dtype=FLOAT64) for name, shape in shapes.items()}


def only_bias(weights: dict[str, Tensor], factor=1.0) -> dict[str, Tensor]:
    """The head, with a guess that is 0: the score of a word is its bias."""
    return {name: weight * factor if name == "bias" else 0 * weight for name, weight in weights.items()}


def draw_labels(draw, *scored: int, T: int = 6) -> Tensor:
    """A row of T labels for each number, with so many scored positions."""
    labels = torch.full((len(scored), T), IGNORE)
    for row, count in zip(labels, scored):
        places = draw.shuffled(range(T))[:count]
        row[places] = draw.whole(0, V - 1, count)
    return labels


def scores_of(hidden, weights, table, eps=1e-12, bend=F.gelu, late=False, norm=None, dense=None) -> Tensor:
    """The head for words: (..., H) -> (..., V); `late` bends after LayerNorm."""
    dense = weights["dense.weight"] if dense is None else dense
    inner = F.linear(hidden, dense, weights["dense.bias"])
    pair = weights["norm.weight"], weights["norm.bias"]
    norm = norm or (lambda x: F.layer_norm(x, (H,), *pair, eps))
    guess = bend(norm(inner)) if late else norm(bend(inner))
    return guess @ table.T + weights["bias"]


def surprise(scores: Tensor, labels: Tensor) -> Tensor:
    """-log p of each label, counted from the end if it is negative."""
    return scores.logsumexp(-1) - scores.gather(-1, (labels % V)[..., None])[..., 0]


def loss_of(scores: Tensor, labels: Tensor) -> Tensor:
    scored = labels != IGNORE
    return surprise(scores, labels)[scored].sum() / scored.sum().clamp(min=1)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=FLOAT64)


NOT_A_PROBABILITY = (
    "You return minus the score of the right word. A score is no log-probability yet: subtract "
    "`scores.logsumexp(-1)` first."
)
NOT_THE_LOG = "You return 1 - p. The surprise is -log p."
ROWS_BELOW = "You divide by the number of rows. Divide by the number of scored words."


def an_even_bet(answer, draw):
    """one scored word, all scores equal: log V"""
    labels = draw_labels(draw, 1, 0)
    hidden, table = draw.normal(2, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    found = tensor_of(answer(hidden, labels, only_bias(draw_head(draw), 0.0), table), number(0.0))
    if found.isnan():
        raise Wrong(
            "With weights of 0 your loss is NaN. All components are equal there, so that the variance is 0, "
            "and 0 / 0 must not happen: that is what eps is for, `sqrt(variance + eps)`."
        )
    expect(
        found,
        number(math.log(V)),
        f"With weights of 0 all {V} words have the same score: the surprise is log {V} = {math.log(V):.3f}.",
        suspects={
            "This is the surprise in bits: take the natural logarithm.": number(math.log2(V)),
            "The sign is wrong: surprise is -log p, which is never negative.": number(-math.log(V)),
            "One position is scored and eleven are not; you divide by all of them. Divide by the number of "
            "scored ones.": number(math.log(V) / 12),
            NOT_A_PROBABILITY: number(0.0),
            NOT_THE_LOG: number(1 - 1 / V),
            ROWS_BELOW: number(math.log(V) / 2),
        },
        tolerance=1e-6,
    )


def the_bias(answer, draw):
    """the words' bias: softmax of the scores"""
    labels, weights = draw_labels(draw, 1), only_bias(draw_head(draw), 2.0)
    hidden, table = draw.normal(1, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    bias, word = weights["bias"], labels[labels != IGNORE]
    expect(
        answer(hidden, labels, weights, table),
        bias.logsumexp(0) - bias[word[0]],
        "With a guess of 0 the scores are the head's `bias`. The surprise is `scores.logsumexp(-1)` minus "
        "the score of the right word.",
        suspects={
            "The head's own `bias`, one number for each word, is missing.": number(math.log(V)),
            NOT_A_PROBABILITY: -bias[word[0]],
            NOT_THE_LOG: 1 - bias.softmax(0)[word[0]],
        },
        tolerance=1e-6,
    )


def many_words(answer, draw):
    """the mean over all scored words of the batch"""
    labels, weights = draw_labels(draw, 1, 5, 2), only_bias(draw_head(draw), 2.0)
    hidden, table = draw.normal(3, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    each = surprise(weights["bias"].expand(3, 6, V), labels)  # (B, T)
    scored = labels != IGNORE
    total = each[scored].sum()
    of_rows = (each * scored).sum(1) / scored.sum(1)
    expect(
        answer(hidden, labels, weights, table),
        total / 8,
        "One word was right; of eight in three rows the mean is wanted.",
        suspects={
            "You return the sum. The loss is the mean over the scored words.": total,
            "You take the mean of each row, and then of the rows: a word in a row with one scored word "
            "counts five times as much as one in a row with five.": of_rows.mean(),
            "The sum is divided by the number of all positions. Divide by the number of scored ones.": total
            / 18,
            "Positions that are not scored count too: Python takes -100 for an "
            "index from the end.": each.mean(),
            ROWS_BELOW: total / 3,
        },
        tolerance=1e-6,
    )


def nothing_scored(answer, draw):
    """nothing scored: 0"""
    weights = draw_head(draw)
    hidden, table = draw.normal(2, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    found = tensor_of(answer(hidden, draw_labels(draw, 0, 0), weights, table), number(0.0))
    if found.isnan():
        raise Wrong(
            "When nothing is scored you return NaN: 0 / 0. Divide the sum by `max(N, 1)`; an unlucky batch "
            "should do no harm."
        )
    expect(found, number(0.0), "When nothing is scored the loss must be 0.")


def the_guess(answer, draw):
    """the guess: dense, GELU, LayerNorm, table"""
    labels, weights = draw_labels(draw, 2, 3), draw_head(draw)
    hidden, table = draw.normal(2, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    weight, bias = weights["norm.weight"], weights["norm.bias"]

    def plain(x):
        return F.layer_norm(x, (H,), eps=1e-12)

    def loss(hidden=hidden, **changes):
        return loss_of(scores_of(hidden, {**weights, **changes.pop("weights", {})}, table, **changes), labels)

    unbiased = math.sqrt((H - 1) / H)
    expect(
        answer(hidden, labels, weights, table),
        loss(),
        "With a guess of 0 you are right; with a real one not. It is dense, GELU, LayerNorm, then the table "
        "read backwards, `guess @ table.T`, plus the bias.",
        suspects={
            "There is no bend: GELU is missing.": loss(bend=lambda x: x),
            "GELU is the tanh form; the exact one has `torch.erf`.": loss(
                bend=lambda x: F.gelu(x, approximate="tanh")
            ),
            "The bend is ReLU; BERT has GELU.": loss(bend=F.relu),
            "LayerNorm comes before GELU; it comes after.": loss(late=True),
            "LayerNorm is missing.": loss(norm=lambda x: x),
            "LayerNorm's own two vectors are missing, `norm.weight` and `norm.bias`.": loss(norm=plain),
            "LayerNorm's bias is missing: plus `norm.bias`.": loss(norm=lambda x: weight * plain(x)),
            "LayerNorm's weight is missing: times `norm.weight`.": loss(norm=lambda x: plain(x) + bias),
            "The variance is the one for samples, with H - 1 below: LayerNorm divides by H.": loss(
                norm=lambda x: weight * plain(x) * unbiased + bias
            ),
            "The dense matrix is the wrong way round. It is stored as (outputs, "
            "inputs): `hidden @ weight.T`.": loss(dense=weights["dense.weight"].T),
            "The bias of the dense layer is missing.": loss(weights={"dense.bias": 0 * bias}),
            "The dense layer and GELU are missing: the vectors go straight into LayerNorm.": loss_of(
                F.layer_norm(hidden, (H,), weight, bias, 1e-12) @ table.T + weights["bias"], labels
            ),
        },
        tolerance=1e-8,
    )


def eps_inside(answer, draw):
    """eps stands inside the root"""
    labels, weights = draw_labels(draw, 2, 3), draw_head(draw)
    hidden, table = draw.normal(2, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)

    def outside(x):
        centred = x - x.mean(-1, keepdim=True)
        sd = centred.square().mean(-1, keepdim=True).sqrt()
        return weights["norm.weight"] * centred / (sd + 0.5) + weights["norm.bias"]

    expect(
        answer(hidden, labels, weights, table, 0.5),
        loss_of(scores_of(hidden, weights, table, eps=0.5), labels),
        "With eps = 0.5, LayerNorm must divide by sqrt(variance + eps).",
        suspects={
            "eps is added to the standard deviation, outside the root; it belongs "
            "inside, to the variance.": loss_of(scores_of(hidden, weights, table, norm=outside), labels),
            "eps changes nothing: use the argument.": loss_of(scores_of(hidden, weights, table), labels),
        },
        tolerance=1e-6,
    )


def large_scores(answer, draw):
    """scores in the thousands stay finite"""
    labels, weights = draw_labels(draw, 3), only_bias(draw_head(draw), 1000.0)
    hidden, table = draw.normal(1, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    expected = loss_of(weights["bias"].expand(1, 6, V), labels)
    found = tensor_of(answer(hidden, labels, weights, table), expected)
    expect(
        found.nan_to_num(nan=-1.0, posinf=-1.0, neginf=-1.0),
        expected,
        "With scores in the thousands your loss is not finite, or wrong: exp of them overflows, and p "
        "becomes 0. `logsumexp` takes the largest score out first; leave the right word's score as it is.",
    )


class Products(TorchFunctionMode):
    """Counts how many vectors have been multiplied with the whole table."""

    NAMES = ("matmul", "mm", "bmm", "mv", "addmm", "addmv", "einsum", "tensordot", "inner")

    def __init__(self):
        super().__init__()
        self.vectors = 0.0

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        name = getattr(function, "__name__", "").strip("_").removeprefix("r")
        if name in self.NAMES and isinstance(result, Tensor) and V in result.shape:
            self.vectors += result.numel() / V
        return result


def count_products(answer, hidden, labels, weights, table) -> dict:
    """A driver: the loss, and for how many vectors all words were scored."""
    with Products() as products:
        loss = answer(hidden, labels, weights, table)
    return {"loss": loss, "vectors": products.vectors}


def gathered_first(answer, draw):
    """only scored positions go through the table"""
    labels, weights = draw_labels(draw, 1, 2, 1), draw_head(draw)
    hidden, table = draw.normal(3, 6, H, dtype=FLOAT64), draw.normal(V, H, dtype=FLOAT64)
    seen = answer.via(count_products, hidden, labels, weights, table)
    expect(
        seen["loss"],
        loss_of(scores_of(hidden, weights, table), labels),
        "For four scored words of 18 the loss is not right.",
        tolerance=1e-6,
    )
    if seen["vectors"] > 4:
        raise Wrong(
            f"The loss is right, but {seen['vectors']:.0f} vectors went through the table for 4 scored "
            "words. Pick the scored positions first, `hidden[labels != -100]`: that saves most of the work."
        )


BARE = Exercise(
    name="bare_loss",
    number="10.1",
    title="the loss from bare weights",
    kind="Rebuild",
    minutes=20,
    difficulty=2,
    goal="The encoder's vectors (B, T, H), labels (B, T), the state dict of the head for words and the token "
    "table (V, H) -> the MLM loss, a scalar, with nothing from `torch.nn`.",
    hints=(
        "The names are `dense.weight`, `dense.bias`, `norm.weight`, `norm.bias` and `bias`. Pick the "
        "positions before anything else.",
        "The surprise is `scores.logsumexp(-1)` minus the score of the right word.",
        "`scores[torch.arange(N), right]` picks the right words' scores. For the empty batch divide the "
        "*sum* by `max(N, 1)`.",
    ),
    stub='''
def bare_loss(hidden, labels, weights, table, eps=1e-12):
    """(B, T, H), labels (B, T), the head's state_dict, the token table (V, H) -> a scalar."""
    ...
''',
    mechanisms=(
        an_even_bet,
        the_bias,
        many_words,
        nothing_scored,
        the_guess,
        eps_inside,
        large_scores,
        gathered_first,
    ),
    finished=("bert_edu.heads",),
    operations=(
        "layer_norm",
        "native_layer_norm",
        "gelu",
        "linear",
        "cross_entropy",
        "cross_entropy_loss",
        "nll_loss",
        "log_softmax",
        "softmax",
    ),
)


# ---- 10.2 --------------------------------------------------------------------------------------------------


def order_all(answer, pairs: list[tuple], seed: int) -> dict:
    """A driver: the pairs that come out as tuples, and whether those that came in are as they were."""
    given = [Pair(list(first), list(second), label) for first, second, label in pairs]
    before = copy.deepcopy(given)
    torch.manual_seed(1)
    made = answer(given, torch.Generator().manual_seed(seed))
    if made is None:
        raise NotYet("It returns None.")
    try:
        made = [(list(each.first), list(each.second), int(each.next_sentence_label)) for each in made]
    except (AttributeError, TypeError, ValueError) as error:
        raise Wrong(
            "The result must be pairs, `Pair(first, second, label)`, as they came in; yours are something "
            f"else: {error}."
        ) from None
    return {"made": made, "kept": given == before}


def numbered_pairs(labels: list[int]) -> list[tuple]:
    """A pair for each label; no two stretches are alike."""
    return [([10 * n + 1, 10 * n + 2], [10 * n + 3, 10 * n + 4, 10 * n + 5], label)
            for n, label in enumerate(labels)]  # fmt: skip


def ordered(answer, labels: list[int], seed: int) -> list[list]:
    """What comes out, each as [number of the pair it was, how its parts stand, label]."""
    pairs = numbered_pairs(labels)
    found = []
    for first, second, label in answer.via(order_all, pairs, seed)["made"]:
        number = min([*first, *second, 10**6]) // 10
        if number >= len(pairs):
            raise Wrong("A pair comes out that has not come in: both of its parts are empty.")
        one, other, _ = pairs[number]
        if [first, second] == [one, other]:
            how = "right"
        elif [first, second] == [other, one]:
            how = "swapped"
        elif [first, second] in ([one[::-1], other[::-1]], [other[::-1], one[::-1]]):
            raise Wrong(
                "The tokens within a part stand in the opposite order. Swap the two parts as they are."
            )
        else:
            raise Wrong(
                f"From the parts {one} and {other} has come {first} and {second}: both parts must stay whole."
            )
        found.append([number, how, label])
    return found


def each_that_follows(answer, draw):
    """each pair that follows comes out once"""
    found = [number for number, *_ in ordered(answer, [0] * 20, draw.whole(0, 999).item())]
    if found == list(range(20)):
        return
    if sorted(found) == list(range(20)):
        raise Wrong("The pairs come out in another order: swap their two parts, and leave the pairs in line.")
    if len(set(found)) < len(found):
        raise Wrong("Some pairs come out twice, in both orders. One coin decides which of the two it is.")
    raise Wrong(f"Of 20 pairs that follow each other {len(found)} come out: keep each of them.")


def random_ones_stay_out(answer, draw):
    """pairs that do not follow are left out"""
    labels = [0, 1, 1, 0, 1, 0, 0, 1]
    found = [number for number, *_ in ordered(answer, labels, 3)]
    if found == [0, 3, 5, 6]:
        return
    if found == [1, 2, 4, 7]:
        raise Wrong("You keep the random pairs, and leave out those that follow: label 0 means really next.")
    if len(found) == 8:
        raise Wrong(
            "Pairs with label 1 come out too. Their parts come from different texts, and have no order: "
            "leave them out."
        )
    raise Wrong("Of eight pairs, those with label 0 must come out, and others do.")


def labels_tell(answer, draw):
    """label 0 for the right order, 1 for swapped"""
    found = ordered(answer, [0] * 60, draw.whole(0, 999).item())
    pairs = {(how, label) for _, how, label in found}
    if pairs == {("right", 0), ("swapped", 1)}:
        return
    if pairs == {("right", 1), ("swapped", 0)}:
        raise Wrong("The labels are inverted: 0 is the right order, and 1 is swapped.")
    if {label for _, label in pairs} == {0} and len(pairs) == 2:
        raise Wrong("Every pair keeps its old label, 0. A swapped one gets 1.")
    if {how for how, _ in pairs} == {"right"}:
        if {label for _, label in pairs} == {0}:
            raise Wrong("Of 60 pairs none is swapped: each should be with probability one half.")
        raise Wrong("Labels of 1 are given, but no parts are swapped: the order must change, too.")
    if pairs == {("swapped", 1)}:
        raise Wrong("All pairs are swapped: each should be with probability one half.")
    raise Wrong(
        "The labels do not tell the order: 0 for the right one, 1 for swapped, for each pair its own."
    )


def swapped_by(answer, count: int, seed: int) -> list[bool]:
    return [how == "swapped" for _, how, _ in ordered(answer, [0] * count, seed)]


def about_half(answer, draw):
    """each with probability one half, by a coin of its own"""
    each_that_follows(answer, draw)
    count = 600
    flags = swapped_by(answer, count, draw.whole(0, 999).item())
    spread = 4.5 * math.sqrt(count) / 2
    number = sum(flags)
    if number in (0, count):
        raise Wrong("One coin decides for all pairs. Each has its own.")
    if abs(number - count / 2) > spread:
        raise Wrong(
            f"Of {count} pairs {number} are swapped; with a fair coin it would be about {count // 2}."
        )
    changes = sum(one != other for one, other in zip(flags, flags[1:]))
    if abs(changes - count / 2) > spread:
        raise Wrong(
            "About half of the pairs are swapped, but not by chance: a pair's order can be told from the one "
            "before it. Draw for each pair."
        )


def by_the_generator(answer, draw):
    """the generator decides, and nothing else"""
    one, again, other = (swapped_by(answer, 60, seed) for seed in (1, 1, 2))
    if one != again:
        raise Wrong(
            "The same seed gives another result the second time: draw with the generator that is given."
        )
    if one == other:
        raise Wrong("Another seed swaps the same pairs: draw with the generator that is given.")


def those_that_came_in(answer, draw):
    """the pairs that came in stay as they were"""
    each_that_follows(answer, draw)
    if not answer.via(order_all, numbered_pairs([0] * 20), 4)["kept"]:
        raise Wrong(
            "The pairs that you were given have changed: you swap them in place. Make new ones, `Pair(first, "
            "second, label)`."
        )


ORDER = Exercise(
    name="sentence_order",
    number="10.2",
    title="which came first?",
    kind="Extend",
    minutes=25,
    difficulty=2,
    goal="Pairs and a generator -> a list of new pairs: those that really follow, their two parts swapped "
    "with probability one half, label 0 for the right order and 1 for swapped.",
    hints=(
        "A `Pair` is made from `first`, `second` and a label. What becomes of the old label?",
        "One draw for each kept pair: `torch.rand((), generator=generator) < 0.5`.",
        "For the last property: does it matter to a rule about shared words in which order it gets the two "
        "parts?",
    ),
    stub='''
def sentence_order(pairs, generator):
    """Pairs as `sentence_pairs` makes them, a torch.Generator -> a list of new pairs."""
    ...
''',
    mechanisms=(
        each_that_follows,
        random_ones_stay_out,
        labels_tell,
        about_half,
        by_the_generator,
        those_that_came_in,
    ),
)


# ---- 10.3 --------------------------------------------------------------------------------------------------


class ColleaguesHead(nn.Module):
    """The chapter's: the decoder is a copy, or in the mended one the table itself."""

    def __init__(self, bert: BertModel, mended: bool):
        super().__init__()
        H, V = bert.config.hidden_size, bert.config.vocab_size
        self.dense, self.norm = nn.Linear(H, H), nn.LayerNorm(H, eps=1e-12)
        self.decoder = nn.Linear(H, V)
        self.decoder.weight.data.copy_(bert.embeddings.token.weight)
        if mended:
            self.decoder.weight = bert.embeddings.token.weight
        nn.init.zeros_(self.decoder.bias)

    def forward(self, hidden):
        return self.decoder(self.norm(F.gelu(self.dense(hidden))))


class ReadsTheTable(nn.Module):
    """Has no decoder of its own, nor any parameter that is the table: it looks at the model's.

    Args:
        bert: the model.
        turned: by how many rows it is wrong.
    """

    def __init__(self, bert: BertModel, turned: int = 0):
        super().__init__()
        self.head, self.turned = MaskedLanguageModelHead(bert.config), turned
        self.elsewhere = [bert]  # a list, so that it is no part of this module

    def forward(self, hidden):
        table = self.elsewhere[0].embeddings.token.weight
        return self.head(hidden, table.roll(self.turned, 0))


class WithoutNorm(nn.Module):
    """Bends the vectors and multiplies them with the table: no LayerNorm, no bias."""

    def __init__(self, bert: BertModel):
        super().__init__()
        self.decoder = nn.Linear(bert.config.hidden_size, bert.config.vocab_size, bias=False)
        self.decoder.weight = bert.embeddings.token.weight

    def forward(self, hidden):
        return self.decoder(torch.relu(hidden))


def judge(answer, kind: type, settings: dict, seed: int) -> dict:
    """A driver: what the answer says about a head, and whether model and head are as they were."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=60,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=9,
        max_position_embeddings=8,
    )
    bert = BertModel(config).eval()
    with torch.no_grad():
        bert.embeddings.token.weight.normal_()
    head = kind(bert, **settings).eval()
    before = [copy.deepcopy(part.state_dict()) for part in (bert, head)]
    asked = [weight.requires_grad for weight in bert.parameters()]
    said = answer(bert, head)
    if said is None:
        raise NotYet("It returns None.")
    if isinstance(said, Tensor) and said.numel() == 1:
        said = said.item()
    if type(said).__name__ not in ("bool", "bool_"):
        raise Wrong(f"is_tied must return True or False, and returns a {type(said).__name__}.")
    after = [part.state_dict() for part in (bert, head)]
    largest = max(
        (one[name] - other[name]).abs().max().item() for one, other in zip(before, after) for name in one
    )
    return {
        "said": bool(said),
        "moved": largest,
        "asked": asked == [weight.requires_grad for weight in bert.parameters()],
    }


def says(answer, kind: type, draw, **settings) -> bool:
    return answer.via(judge, kind, settings, draw.whole(0, 999).item())["said"]


def the_mended_one(answer, draw):
    """the mended head: True"""
    if not says(answer, ColleaguesHead, draw, mended=True):
        if says(answer, ColleaguesHead, draw, mended=False):
            raise Wrong("True and False have changed places: a head that has a copy is not tied.")
        raise Wrong(
            "The mended head's decoder *is* the table, and you say False. Does its score move when you "
            "change a word's row? The same number added to a whole row moves nothing behind a LayerNorm: its "
            "components sum to 0."
        )


def the_copy(answer, draw):
    """the colleague's head: False"""
    the_mended_one(answer, draw)
    if says(answer, ColleaguesHead, draw, mended=False):
        raise Wrong(
            "The colleague's head has a copy of the table, and you say True. The copy is equal to it today: "
            "change a row of the table, and see whether the word's score moves."
        )


def by_what_comes_out(answer, draw):
    """a head without a decoder that reads the table: True"""
    if not says(answer, ReadsTheTable, draw):
        raise Wrong(
            "This head reads the model's own table each time, and has no parameter that is the table; you "
            "say False. Whether a head is tied shows in what comes out, not in whose parameter it is."
        )


def without_a_norm(answer, draw):
    """a head without LayerNorm and bias: True"""
    if not says(answer, WithoutNorm, draw):
        raise Wrong(
            "This head multiplies with the table, without LayerNorm or bias, and you say False. From a "
            "vector of zeros it can make nothing but zeros: score a random vector."
        )


def the_words_own_score(answer, draw):
    """a head that reads the wrong rows: False"""
    the_mended_one(answer, draw)
    if says(answer, ReadsTheTable, draw, turned=3):
        raise Wrong(
            "In this head every word reads the row of another one. Some score moves when you change a row, "
            "but not that of this word: look at the word's own score."
        )


def as_it_was(answer, draw):
    """the table is as it was afterwards"""
    the_copy(answer, draw)
    seen = [answer.via(judge, ColleaguesHead, {"mended": mended}, seed)
            for mended in (True, False) for seed in range(3)]  # fmt: skip
    moved = max(each["moved"] for each in seen)
    if moved > 1e-4:
        raise Wrong("The table has changed: put the copy of the row back before you return.")
    if moved > 0:
        raise Wrong(
            f"The table has changed by {moved:.0e}: adding numbers and taking them away again leaves a "
            "rounding error. Keep a copy of the row, a `clone`, and put it back."
        )
    if not all(each["asked"] for each in seen):
        raise Wrong(
            "A parameter that asked for gradients no longer does: use `torch.no_grad()` for the change."
        )


TIED = Exercise(
    name="is_tied",
    number="10.3",
    title="tied, for a moment",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="A `BertModel` and a head, vectors (..., H) to scores (..., V) -> True if changing a word's row in "
    "the token table changes that word's score, else False. The table stays as it was.",
    hints=(
        "What does `copy_` do the moment it is called, and what after that?",
        "Tied means: whoever changes a word's row in the embedding table changes that word's score.",
        "Score a random vector. Under `torch.no_grad()` keep a copy of one row of the table, add random "
        "numbers to the row, score again, and put the copy back. Which score moved? (Adding the same number "
        "to the whole row would move nothing: the guess comes from a LayerNorm, so its components sum to 0.)",
    ),
    stub='''
def is_tied(bert, head):
    """A BertModel and a head, (..., H) -> (..., V): is the head's decoder the token table?"""
    ...
''',
    mechanisms=(
        the_mended_one,
        the_copy,
        by_what_comes_out,
        without_a_norm,
        the_words_own_score,
        as_it_was,
    ),
    changes_input=True,  # it is given modules; `as_it_was` looks at these
)

EXERCISES = (BARE, ORDER, TIED)
