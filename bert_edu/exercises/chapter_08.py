"""Exercises of chapter 8, looking inside: how do I see what a forward pass does?"""

import contextlib
import copy
import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import MultiHeadSelfAttention, attention_bias, scaled_dot_product_attention
from ..config import BertConfig
from ..introspection import record
from ..model import BertModel
from .engine import Exercise, expect
from .sandbox import NotYet, Wrong


def hooks_on(*models: nn.Module) -> int:
    """How many forward hooks there are on all modules of the models."""
    modules = [module for model in models for module in model.modules()]
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


# ---- 8.1 ---------------------------------------------------------------------------------------------------


class NotesRequests(MultiHeadSelfAttention):
    """An attention that notes whether somebody has asked it for its shares."""

    asked = False

    def forward(self, hidden, *, bias=None, output_attentions=False):
        self.asked = self.asked or output_attentions
        return super().forward(hidden, bias=bias, output_attentions=output_attentions)


def draw_bert(draw, L: int = 1, A: int = 1, D: int = 4) -> BertModel:
    """A small model whose heads have clear preferences."""
    config = BertConfig(
        vocab_size=30,
        hidden_size=A * D,
        num_hidden_layers=L,
        num_attention_heads=A,
        intermediate_size=6,
        max_position_embeddings=12,
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(draw.normal(*weight.shape))
    return model


def indifferent(model: BertModel) -> BertModel:
    """The model, with equal scores everywhere: each query shares alike among all it may read."""
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.attention.query_key_value.weight.zero_()
    return model


def draw_batch(draw, *lengths: int) -> dict[str, Tensor]:
    """A row of ids for each length, padded to the longest, and the mask."""
    T = max(lengths)
    mask = (torch.arange(T) < torch.tensor(lengths)[:, None]).long()  # (B, T)
    return {"input_ids": draw.whole(1, 29, len(lengths), T) * mask, "attention_mask": mask}


def measure(answer, model: BertModel, batch: dict[str, Tensor]) -> dict:
    """A driver: the entropies, the hooks that are left, and whether the model was asked for its shares."""
    for layer in model.encoder.layers:
        layer.attention.__class__ = NotesRequests
    found = answer(model, batch)
    asked = any(layer.attention.asked for layer in model.encoder.layers)
    return {"found": found, "hooks": hooks_on(model), "asked": asked}


def measured(answer, model: BertModel, batch: dict[str, Tensor]) -> Tensor:
    """What the answer says, unless it has asked for what it should work out."""
    seen = answer.via(measure, model, batch)
    if seen["asked"]:
        raise Wrong(
            "You have asked the model for its attention. All you may use of the pass is what the modules "
            "called `query_key_value` give out: work the shares out from queries and keys."
        )
    return seen["found"]


def queries_keys_values(model: BertModel, batch: dict[str, Tensor], split="3AD") -> Tensor:
    """(3, L, B, A, T, D); `split` is the order in which the last axis of (B, T, 3H) is taken apart."""
    names = [name for name, _ in model.named_modules() if name.endswith("query_key_value")]
    with torch.no_grad(), record(model, only=names, keep=True) as seen:
        model(**batch)
    sizes = {"3": 3, "A": model.config.num_attention_heads, "D": model.config.head_size}
    side_by_side = torch.stack([row.tensor for row in seen.rows])  # (L, B, T, 3H)
    apart = side_by_side.unflatten(-1, [sizes[letter] for letter in split])
    return apart.permute(3 + split.index("3"), 0, 1, 3 + split.index("A"), 2, 3 + split.index("D"))


def entropies(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores (L, B, A, T, T) -> the entropy of what each query gives away (L, B, A, T)."""
    return entropies_of(scaled_shares(scores, mask))


def scaled_shares(scores: Tensor, mask: Tensor) -> Tensor:
    return (scores + attention_bias(mask, scores.dtype)).softmax(-1)


def entropies_of(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum(-1)


def over_real_tokens(each: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real tokens of all rows: (L, B, A, T) -> (L, A)."""
    return (each * mask[:, None]).sum((1, 3)) / mask.sum()


def right_scores(model: BertModel, batch: dict[str, Tensor], split="3AD") -> Tensor:
    """(L, B, A, T, T)"""
    query, key, _ = queries_keys_values(model, batch, split)
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])


def right_entropies(model: BertModel, batch: dict[str, Tensor], split="3AD") -> Tensor:
    mask = batch["attention_mask"]
    return over_real_tokens(entropies(right_scores(model, batch, split), mask), mask)


def one_key(answer, draw):
    """one token: nothing to choose, so the entropy is 0"""
    model, batch = draw_bert(draw), draw_batch(draw, 1)
    expect(
        measured(answer, model, batch),
        torch.zeros(1, 1),
        "With one token there is one share, and it is 1: the entropy must be 0.",
        suspects={
            "With one token you return 1. That is exp(entropy), the number of keys as if; the entropy itself "
            "is asked for.": torch.ones(1, 1),
        },
    )


def equal_shares(answer, draw):
    """equal shares: log T, in nats"""
    T = draw.sizes(1, 4, 9)[0]
    model, batch = indifferent(draw_bert(draw)), draw_batch(draw, T)

    def all_of(number):
        return torch.full((1, 1), number)

    expect(
        measured(answer, model, batch),
        all_of(math.log(T)),
        f"When a query shares alike among {T} keys, its entropy is log {T} = {math.log(T):.3f}, and so is "
        "the mean over all queries.",
        suspects={
            "This is the entropy in bits, with the logarithm to base 2. `record` counts in nats: take the "
            "natural logarithm.": all_of(math.log2(T)),
            "The sign is wrong. The logarithm of a share is negative, and entropy is minus the sum.": all_of(
                -math.log(T)
            ),
            "The entropies of the queries are added up. Their mean is asked for.": all_of(T * math.log(T)),
            "You take the mean over the keys. An entropy is a *sum* over the keys; the mean comes after, "
            "over the queries.": all_of(math.log(T) / T),
        },
    )


def one_head(answer, draw):
    """one head: the shares that queries and keys lead to"""
    model, batch = draw_bert(draw, D=5), draw_batch(draw, 7)
    mask = batch["attention_mask"]
    query, key, value = queries_keys_values(model, batch)
    scores = right_scores(model, batch)

    def of_scores(scores):
        return over_real_tokens(entropies(scores, mask), mask)

    def product(first, second):
        return of_scores(first @ second.transpose(-2, -1) / math.sqrt(5))

    expect(
        measured(answer, model, batch),
        right_entropies(model, batch),
        "For equal shares you were right; for a head with preferences these are not the entropies of "
        "softmax(q · k / sqrt(D)).",
        suspects={
            "The scores are not divided by the root of D, so that every head looks more "
            "decided than it is.": of_scores(scores * math.sqrt(5)),
            "The softmax runs over the queries, or queries and keys have changed places. What *one query* "
            "gives away sums to 1: row i holds the scores of query i, and softmax runs over the keys, the "
            "last dimension.": of_scores(scores.transpose(-2, -1)),
            "You take the values for the keys: side by side stand queries, keys and "
            "values, in this order.": product(query, value),
            "You take the values for the queries: side by side stand queries, keys and "
            "values, in this order.": product(value, key),
        },
    )


def several_heads(answer, draw):
    """several heads, in their order"""
    A, D = 3, 4
    model, batch = draw_bert(draw, A=A, D=D), draw_batch(draw, 7)
    mask, scores, right = batch["attention_mask"], right_scores(model, batch), right_entropies(model, batch)
    expect(
        measured(answer, model, batch),
        right,
        f"With one head you were right; with {A} heads of {D} components the entropies are others: look at "
        "how (B, T, 3H) is taken apart.",
        suspects={
            "The heads are mixed: each of yours takes every A-th component. Head a has the components a*D to "
            "(a+1)*D, so the last axis becomes (A, D), not (D, A).": right_entropies(model, batch, "3DA"),
            "The last axis is cut into heads first and into query, key and value then. All queries stand "
            "first: (3, A, D).": right_entropies(model, batch, "A3D"),
            "The scores are divided by the root of H. With one head that is the same; a head's queries have "
            "D = H/A components.": over_real_tokens(entropies(scores / math.sqrt(A), mask), mask),
            "All heads have one number, their mean. Keep them apart.": right.mean(1, keepdim=True).expand(
                1, A
            ),
        },
    )


def several_layers(answer, draw):
    """several layers, in their order"""
    model, batch = draw_bert(draw, L=3, A=2), draw_batch(draw, 6)
    right = right_entropies(model, batch)
    expect(
        measured(answer, model, batch),
        right,
        "One layer was right; of three, at least one is not.",
        suspects={
            "The layers come in the opposite order: row 0 belongs to the first layer.": right.flip(0),
            "Every row is the last layer's. A hook that looks its loop variable up when it is called finds "
            "the last one; and a dictionary keeps one entry for a name.": right[-1:].expand(3, 2),
            "Every row is the first layer's.": right[:1].expand(3, 2),
        },
    )


def padded_keys(answer, draw):
    """padded keys get no share"""
    T, real = 8, draw.whole(3, 5).item()
    model, row = indifferent(draw_bert(draw, A=2)), draw_batch(draw, real)
    padded = {name: F.pad(value, (0, T - real)) for name, value in row.items()}

    def all_of(number):
        return torch.full((1, 2), number)

    found = measured(answer, model, padded)
    if isinstance(found, Tensor) and found.isnan().any():
        raise Wrong(
            "Your result is NaN when keys are hidden: a share of 0 gives 0 · log 0, and log 0 is minus "
            "infinity. `torch.xlogy(p, p)` is 0 there."
        )
    expect(
        found,
        all_of(math.log(real)),
        f"When {real} of {T} tokens are real and all scores are equal, each query shares alike among {real} "
        f"keys: the entropy is log {real}.",
        suspects={
            f"Padded keys get their share: with {real} real tokens of {T} you return log {T}. Add "
            "`attention_bias(mask, dtype)` to the scores.": all_of(math.log(T)),
            "You set the shares of padded keys to 0 after softmax, so that the rest no longer sums to 1. "
            "Hide the keys before, in the scores.": all_of(real / T * math.log(T)),
            "The mask is the wrong way round: 1 means read, 0 means hide, and "
            "yours reads the padding.": all_of(math.log(T - real)),
            "You divide by T, padding included, after leaving the padded queries out. Divide by the number "
            "of real tokens.": all_of(real / T * math.log(real)),
        },
    )


def padded_queries(answer, draw):
    """padded queries do not count, and all real tokens count alike"""
    model, batch = draw_bert(draw, A=2), draw_batch(draw, 3, 9)
    mask = batch["attention_mask"]
    each = entropies(right_scores(model, batch), mask)  # (L, B, A, T)
    of_rows = (each * mask[:, None]).sum(3) / mask.sum(1)[:, None]  # (L, B, A)
    expect(
        measured(answer, model, batch),
        over_real_tokens(each, mask),
        "With padding these are not the means over the real tokens.",
        suspects={
            "Padded queries count in your mean. What stands under the padding would change it: multiply the "
            "entropies by the mask, and divide by the number of real tokens.": each.mean((1, 3)),
            "Each row has the same weight, and all real tokens should have: divide the sum over all rows by "
            "the number of real tokens.": of_rows.mean(1),
            "Only the first row of the batch counts.": of_rows[:, 0],
        },
    )


def other_padding(answer, draw):
    """what stands under the padding has no say"""
    model, batch = draw_bert(draw, L=2, A=2), draw_batch(draw, 4, 9)
    mask = batch["attention_mask"]
    other = {"input_ids": batch["input_ids"] + (1 - mask) * 7, "attention_mask": mask}
    expect(
        measured(answer, model, other),
        right_entropies(model, batch),
        "Other ids under the padding change your result: somebody reads them. Are the padded keys hidden "
        "from the model too, `model(**batch)`?",
    )


def no_hook_left(answer, draw):
    """no hook is left"""
    one_head(answer, draw)
    left = answer.via(measure, draw_bert(draw, L=2), draw_batch(draw, 5))["hooks"]
    if left:
        raise Wrong(
            f"The numbers are right, and {left} hooks are left on the model: every later pass calls them. "
            "Keep what `register_forward_hook` returns, and call its `remove()` at the end."
        )


ENTROPIES = Exercise(
    name="head_entropies",
    number="8.1",
    title="entropy, from one kind of hook",
    kind="Rebuild",
    minutes=20,
    difficulty=2,
    goal="A `BertModel` and a batch, a dict with `input_ids` and `attention_mask` -> the mean entropy of "
    "every head over the real tokens, in nats, (L, A), from nothing but what the modules called "
    "`query_key_value` give out.",
    hints=(
        "What comes out is (B, T, 3H): queries, keys and values side by side, each with all heads. Chapter 5 "
        "has the two steps that make (B, A, T, D) of a third of it.",
        "Hidden keys are hidden by `attention_bias(mask, dtype)` from chapter 4. For padded queries that is "
        "no help: leave them out of the mean.",
        "`torch.xlogy(p, p)` is $p \\log p$, and 0 where $p$ is 0. Multiply the entropies (B, A, T) by the "
        "mask, (B, 1, T), sum over rows and queries, and divide by the number of real tokens.",
    ),
    stub='''
def head_entropies(model, batch):
    """A BertModel and a dict of tensors (B, T) -> the entropy of every head, (L, A)."""
    ...
''',
    mechanisms=(
        one_key,
        equal_shares,
        one_head,
        several_heads,
        several_layers,
        padded_keys,
        padded_queries,
        other_padding,
        no_hook_left,
    ),
    finished=("bert_edu.introspection",),
)


# ---- 8.2 ---------------------------------------------------------------------------------------------------


class Chain(nn.Module):
    """A model of few modules, one of which is called twice."""

    def __init__(self):
        super().__init__()
        self.table, self.norm, self.drop = nn.Embedding(30, 12), nn.LayerNorm(12), nn.Dropout(0.1)
        self.up, self.down, self.last = nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 12)

    def forward(self, input_ids, attention_mask):
        hidden = self.drop(self.norm(self.table(input_ids)))
        hidden = hidden + self.drop(self.down(F.gelu(self.up(hidden))))
        return {"last": self.last(hidden * attention_mask[..., None])}


class InHalves(nn.Linear):
    """A linear layer that adds up its products in another order: equal but for rounding."""

    def forward(self, inputs):
        cut = inputs.shape[-1] // 2
        first = inputs[..., :cut] @ self.weight[:, :cut].T
        return inputs[..., cut:] @ self.weight[:, cut:].T + self.bias + first


class Wrapped(nn.Module):
    """The same modules under other names; with another one before them if asked."""

    def __init__(self, model: nn.Module, before: nn.Module | None = None):
        super().__init__()
        self.before, self.inner = before, model

    def forward(self, input_ids, attention_mask):
        if self.before:
            attention_mask = self.before(attention_mask)
        return self.inner(input_ids=input_ids, attention_mask=attention_mask)


class OtherLayer(nn.Module):
    """An encoder layer with query, key and value apart."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        fused = layer.attention.query_key_value
        H = fused.in_features
        self.heads = layer.attention.num_heads
        for name, weight, bias in zip("qkv", fused.weight.chunk(3), fused.bias.chunk(3)):
            part = nn.Linear(H, H)
            part.weight.data, part.bias.data = weight.detach().clone(), bias.detach().clone()
            self.add_module(name, part)
        self.joined, self.norm1 = layer.attention.output, layer.attention_norm
        self.up, self.bend, self.down = layer.feed_forward.expand, nn.GELU(), layer.feed_forward.contract
        self.norm2 = layer.feed_forward_norm

    def forward(self, hidden, bias):
        apart = (part(hidden).unflatten(-1, (self.heads, -1)) for part in (self.k, self.q, self.v))
        key, query, value = (part.transpose(1, 2) for part in apart)  # (B, A, T, D)
        read, _ = scaled_dot_product_attention(query, key, value, bias)
        hidden = self.norm1(hidden + self.joined(read.transpose(1, 2).flatten(2)))
        return self.norm2(hidden + self.down(self.bend(self.up(hidden))))


class OtherParts(nn.Module):
    """The same model from other modules, some in another order, under other names."""

    def __init__(self, model: BertModel):
        super().__init__()
        model = copy.deepcopy(model)
        tables = model.embeddings
        self.where, self.which, self.what = tables.position, tables.segment, tables.token
        self.norm = tables.norm
        self.blocks = nn.ModuleList(OtherLayer(layer) for layer in model.encoder.layers)
        self.last, self.end = model.pooler.dense, nn.Tanh()

    def forward(self, input_ids, attention_mask):
        where = self.where(torch.arange(input_ids.shape[1]))
        hidden = self.norm(self.which(torch.zeros_like(input_ids)) + where + self.what(input_ids))
        for block in self.blocks:
            hidden = block(hidden, attention_bias(attention_mask, hidden.dtype))
        return {"last": self.end(self.last(hidden[:, 0]))}


def draw_twins(draw) -> tuple[Chain, Chain, dict[str, Tensor]]:
    """Two equal models in float32, all weights of which have a say, and a batch with padding."""
    model = Chain().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(draw.normal(*weight.shape))
    return model, copy.deepcopy(model), draw_batch(draw, 4, 7)


def name_it(answer, mine, reference, batch) -> dict:
    """A driver: whom the answer suspects, and whether both models are as they were."""
    found = answer(mine, reference, batch)
    kept = all(weight.dtype == torch.float32 for model in (mine, reference) for weight in model.parameters())
    return {"found": found, "kept": kept, "hooks": hooks_on(mine, reference)}


def expect_name(answer, mine, reference, batch, expected: str | None, message: str, suspects=None) -> dict:
    """Raises `Wrong` unless the answer suspects this module of mine."""
    seen = answer.via(name_it, mine, reference, batch)
    found = seen["found"]
    if isinstance(found, int) and not isinstance(found, bool):
        raise Wrong("You return the number of a module. Its name is asked for, as `observe` gives it.")
    if found is not None and not isinstance(found, str):
        raise Wrong(
            f"The result must be the name of a module, or None, and is of type {type(found).__name__}."
        )
    if found != expected:
        raise Wrong(f"{(suspects or {}).get(found, message)} Expected {expected!r}, found {found!r}.")
    return seen


def a_fault_between_twins(answer, draw):
    """two copies of one model, one with another eps: the norm that has it"""
    mine, reference, batch = draw_twins(draw)
    mine.norm.eps = 0.5
    if answer.via(name_it, mine, reference, batch)["found"] is None:
        raise NotYet("It returns None, although one of the two models has another eps in its LayerNorm.")
    expect_name(
        answer,
        mine,
        reference,
        batch,
        "norm",
        "Two copies of a model, and the LayerNorm has another eps in mine.",
        suspects={"table": "You name the last module that agrees. The one to suspect comes after it."},
    )


def twins(answer, draw):
    """two copies of one model: nobody"""
    expect_name(
        answer,
        *draw_twins(draw),
        None,
        "For two copies of one model there is nobody to suspect: all outputs agree, the last one too.",
    )


def nothing_agrees(answer, draw):
    """when nothing agrees: the first module"""
    mine, reference, batch = draw_twins(draw)
    with torch.no_grad():
        for weight in mine.parameters():
            weight += 0.5
    expect_name(
        answer,
        mine,
        reference,
        batch,
        "table",
        "Two models that have nothing in common: no output agrees, so the first is to be suspected.",
    )


def rounding_is_no_fault(answer, draw):
    """rounding is no fault"""
    mine, reference, batch = draw_twins(draw)
    for module in (reference.up, reference.down, reference.last):
        module.__class__ = InHalves
    expect_name(
        answer,
        mine,
        reference,
        batch,
        None,
        "The reference adds up its products in another order, and you take the last digits of float32 for a "
        "fault. Walk through copies in double precision.",
    )


def a_small_fault(answer, draw):
    """a fault of one in 100,000"""
    mine, reference, batch = draw_twins(draw)
    with torch.no_grad():
        mine.up.bias += 1e-5
    expect_name(
        answer,
        mine,
        reference,
        batch,
        "up",
        "A bias is off by 0.00001, and you do not see it there: in double precision, agreement can be asked "
        "for to 1e-8.",
        suspects={
            "drop": "This module is called twice, so it gives out two tensors under one name. Keep the "
            "outputs in a list: a dictionary forgets the first."
        },
    )


def turned_numbers(answer, draw):
    """the same numbers in another order do not agree"""
    mine, reference, batch = draw_twins(draw)
    with torch.no_grad():
        for weight in mine.down.parameters():
            weight.copy_(weight.flip(0))
    expect_name(
        answer,
        mine,
        reference,
        batch,
        "down",
        "One matrix has its rows in the opposite order, so its output has the same mean and sd, and other "
        "numbers at each place. Compare number by number.",
    )


def other_names(answer, draw):
    """modules under other names"""
    mine, reference, batch = draw_twins(draw)
    mine.norm.eps = 0.5
    expect_name(
        answer,
        mine,
        Wrapped(reference),
        batch,
        "norm",
        "The reference's modules are the same, but called otherwise (`inner.norm`): look for equal numbers, "
        "not for equal names.",
    )


def more_modules(answer, draw):
    """a reference with more modules"""
    mine, reference, batch = draw_twins(draw)
    expect_name(
        answer,
        mine,
        Wrapped(reference, before=nn.Identity()),
        batch,
        None,
        "The reference has one module more, before all others, and nothing is wrong. If you compare place by "
        "place, all are shifted by one: look for each output among all of the reference's.",
    )


def draw_berts(draw) -> tuple[BertModel, OtherParts, dict[str, Tensor]]:
    """A BERT, the same from other modules, and a batch with padding."""
    mine = draw_bert(draw, A=3)
    return mine, OtherParts(mine), draw_batch(draw, 4, 7)


def other_parts(answer, draw):
    """a BERT from other modules: nobody"""
    expect_name(
        answer,
        *draw_berts(draw),
        None,
        "The reference computes the same with other modules: all is right, and you suspect somebody.",
        suspects={
            "encoder.layers.0.attention.query_key_value": "You name the first output without a counterpart. "
            "The reference has query, key and value apart, so "
            "this one has none, and nothing is wrong.",
        },
    )


def a_fault_among_other_parts(answer, draw):
    """a BERT from other modules, and a fault"""
    mine, reference, batch = draw_berts(draw)
    mine.encoder.layers[0].feed_forward.activation = functools.partial(F.gelu, approximate="tanh")
    expect_name(
        answer,
        mine,
        reference,
        batch,
        "encoder.layers.0.feed_forward.contract",
        "The fault is in the layer's activation, and `contract` is the first to show it.",
    )


def both_as_they_were(answer, draw):
    """both models stay as they were"""
    mine, reference, batch = draw_twins(draw)
    mine.norm.eps = 0.5
    seen = expect_name(answer, mine, reference, batch, "norm", "The LayerNorm has another eps in mine.")
    if not seen["kept"]:
        raise Wrong(
            "The models that you were given are in double precision afterwards: `double()` changes a model "
            "in place. Walk through a copy, `copy.deepcopy(model).double()`."
        )
    if seen["hooks"]:
        raise Wrong(
            f"{seen['hooks']} hooks are left on the models that you were given: hooks belong on a copy, or "
            "must be removed."
        )


SUSPECT = Exercise(
    name="first_suspect",
    number="8.2",
    title="a walk by numbers",
    kind="Extend",
    minutes=25,
    difficulty=2,
    goal="Two models and a batch, a dict that both take as `model(**batch)` -> the name of the module of "
    "mine that follows the last output that any module of the reference gave out too; None if the last "
    "output agrees.",
    hints=(
        '`query_key_value` gives queries, keys and values in one tensor; the reference has three. So "the '
        'first without a counterpart" is not the answer. What is true of everything behind a fault?',
        "Behind the fault nothing agrees any more. So look for the *last* output that agrees.",
        "Suspect the module that follows the last one that agrees. `tensor.shape == other.shape and "
        "torch.allclose(tensor, other, atol=1e-8)` compares two outputs.",
    ),
    stub='''
def first_suspect(mine, reference, batch):
    """Two models and a dict of tensors -> the name of a module of mine, or None."""
    ...
''',
    mechanisms=(
        a_fault_between_twins,
        twins,
        nothing_agrees,
        rounding_is_no_fault,
        a_small_fault,
        turned_numbers,
        other_names,
        more_modules,
        other_parts,
        a_fault_among_other_parts,
        both_as_they_were,
    ),
    finished=("bert_edu.introspection",),
)


# ---- 8.3 ---------------------------------------------------------------------------------------------------


class InPlaceBlock(nn.Module):
    """The colleague's: writes its output over its input."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, hidden):
        hidden += self.linear(self.norm(hidden))
        return hidden


@contextlib.contextmanager
def observed(model: nn.Module, keep):
    """(name, keep(inputs, output, number)) of every module that finishes inside the block."""
    seen, handles = [], []
    for name, module in model.named_modules():

        def note(module, inputs, output, name=name):
            seen.append((name, keep(inputs[0], output, len(seen))))

        handles.append(module.register_forward_hook(note))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def honest(model):
    """The chapter's `observe`."""
    return observed(model, lambda before, after, number: after.detach().clone())


def colleagues(model):
    """No copy: what is overwritten later is overwritten here too."""
    return observed(model, lambda before, after, number: after.detach())


def of_what_went_in(model):
    """Keeps the input in place of the output."""
    return observed(model, lambda before, after, number: before.detach().clone())


def wrong_at(model, place: int):
    """Keeps all but one as it was."""
    return observed(model, lambda before, after, number: after.detach() * (2.0 if number == place else 1.0))


def judge(answer, observer, model, batch) -> dict:
    """A driver: what the answer says about an observer, and the hooks that are left."""
    said = answer(observer, model, batch)
    if said is None:
        raise NotYet("It returns None.")
    if isinstance(said, Tensor) and said.numel() == 1:
        said = said.item()
    if type(said).__name__ not in ("bool", "bool_"):
        raise Wrong(f"tells_the_truth must return True or False, and returns a {type(said).__name__}.")
    return {"said": bool(said), "hooks": hooks_on(model)}


def verdict(answer, observer, model, batch) -> bool:
    return answer.via(judge, observer, model, batch)["said"]


def draw_stack(draw, *parts: nn.Module) -> nn.Sequential:
    """The parts in a row, with weights that have a say."""
    stack = nn.Sequential(*parts)
    with torch.no_grad():
        for weight in stack.parameters():
            weight.copy_(draw.normal(*weight.shape))
    return stack


def plain_stack(draw) -> nn.Sequential:
    return draw_stack(draw, nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6), nn.LayerNorm(6))


def in_place_stack(draw) -> nn.Sequential:
    return draw_stack(draw, *(InPlaceBlock(6) for _ in range(4)))


def an_honest_one(answer, draw):
    """an observer that keeps copies: True"""
    if not verdict(answer, honest, plain_stack(draw), draw.normal(1, 5, 6)):
        if verdict(answer, of_what_went_in, plain_stack(draw), draw.normal(1, 5, 6)):
            raise Wrong(
                "True and False have changed places: of an observer that copies each output you say False, "
                "and True of one that keeps the inputs."
            )
        raise Wrong("This observer copies each output as it is given out, and you say False.")


def a_simple_lie(answer, draw):
    """an observer that keeps what went in: False"""
    an_honest_one(answer, draw)
    if not verdict(answer, of_what_went_in, plain_stack(draw), draw.normal(1, 5, 6)):
        return
    if verdict(answer, colleagues, in_place_stack(draw), draw.normal(1, 5, 6)):
        raise Wrong(
            "This observer keeps copies of what *went into* each module, and you say True, as of any other: "
            "compare what is kept with what you have seen come out."
        )
    raise Wrong(
        "This observer keeps copies of what *went into* each module, and you say True. It seems that you "
        "look at where the tensors lie in memory. Compare numbers: what is kept, and what came out."
    )


def one_lie(answer, draw):
    """one wrong tensor among many: False"""
    an_honest_one(answer, draw)
    last = 4  # the stack itself
    places = {0: "first", 2: "third", last: "last"}
    said = {
        place: verdict(
            answer, functools.partial(wrong_at, place=place), plain_stack(draw), draw.normal(1, 5, 6)
        )
        for place in places
    }
    if said == {0: True, 2: True, last: False}:
        raise Wrong("You compare the last tensor alone. The lie may be in any of them.")
    for place, word in places.items():
        if said[place]:
            raise Wrong(f"When the {word} tensor that was kept is wrong, you say True: compare all of them.")


def the_colleagues(answer, draw):
    """the colleague's observer, blocks that write in place: False"""
    an_honest_one(answer, draw)
    if verdict(answer, colleagues, in_place_stack(draw), draw.normal(1, 5, 6)):
        raise Wrong(
            "Of the colleague's observer you say True. When you compare, what you have noted yourself must "
            "be what it was at the time: note a number at once, or a `clone`, or it is overwritten as well."
        )


def honest_in_place(answer, draw):
    """an observer that keeps copies, blocks that write in place: True"""
    if not verdict(answer, honest, in_place_stack(draw), draw.normal(1, 5, 6)):
        raise Wrong(
            "The blocks write in place, the observer copies each output in time, and you say False. Do you "
            "look at the outputs after the pass? Or give a second pass what the first has overwritten?"
        )


def true_without_copies(answer, draw):
    """the colleague's observer, nothing is overwritten: True"""
    stack = draw_stack(draw, nn.Linear(6, 6), nn.Dropout(0.1), nn.Linear(6, 6), nn.Identity()).eval()
    if not verdict(answer, colleagues, stack, draw.normal(1, 5, 6)):
        raise Wrong(
            "Here no module writes in place, so that even the colleague's observer has kept what was given "
            "out, and you say False. Two modules that give out one tensor are no lie: judge by the numbers."
        )


def with_dropout(answer, draw):
    """dropout in training: the same pass is compared"""
    stack = draw_stack(draw, nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6)).train()
    if not verdict(answer, honest, stack, draw.normal(2, 7, 6)):
        raise Wrong(
            "With dropout on, an observer that copies each output gets a False. You compare two different "
            "passes: have both look at the same one, in one `with`."
        )


def no_hook_of_yours(answer, draw):
    """no hook is left"""
    the_colleagues(answer, draw)
    left = answer.via(judge, honest, plain_stack(draw), draw.normal(1, 5, 6))["hooks"]
    if left:
        raise Wrong(
            f"{left} hooks are left on the model. Keep what `register_forward_hook` returns, and call its "
            "`remove()` at the end."
        )


TRUTH = Exercise(
    name="tells_the_truth",
    number="8.3",
    title="healthy in every layer",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="An observer like the chapter's `observe`, a model whose modules all give out a tensor, and the "
    "tensor that the model takes -> True if what the observer has kept after a pass is what the modules "
    "gave out at the time, else False.",
    hints=(
        'Print the kept sds in full. In what way are they "the same"? Compare them with the sd of the final '
        "output.",
        "How many tensors do 24 blocks have between them? `detach` gives a second name to the same numbers.",
        "`record` computes its statistics at the moment when a module finishes. Compare its `row.sd` with "
        "the sd of what was kept, after the pass. Give the model a `clone` of the batch, since it changes "
        "what it is given.",
    ),
    stub='''
def tells_the_truth(observer, model, batch):
    """`with observer(model) as kept:` keeps (name, tensor) pairs -> True or False."""
    ...
''',
    mechanisms=(
        an_honest_one,
        a_simple_lie,
        one_lie,
        the_colleagues,
        honest_in_place,
        true_without_copies,
        with_dropout,
        no_hook_of_yours,
    ),
)

EXERCISES = (ENTROPIES, SUSPECT, TRUTH)
