"""Exercises of chapter 6, the encoder layer: what holds a deep stack together?"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import BertConfig
from ..encoder import EncoderLayer
from .engine import Exercise, expect, tensor_of
from .sandbox import NotYet, Wrong, call

FLOAT64 = torch.float64


# ---- 6.1 ---------------------------------------------------------------------------------------------------


def draw_weights(draw, H: int, inner: int) -> dict[str, Tensor]:
    """The state dict of an encoder layer, far from any initial value."""
    layer = EncoderLayer(BertConfig(hidden_size=H, num_attention_heads=1, intermediate_size=inner))
    return {name: draw.normal(*weight.shape, dtype=FLOAT64) for name, weight in layer.state_dict().items()}


def adding_nothing(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same layer, but its feed-forward network gives 0 for any input."""
    silent = ("feed_forward.contract.weight", "feed_forward.contract.bias")
    return {name: 0 * weight if name in silent else weight for name, weight in weights.items()}


def with_plain_norms(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same layer, but both LayerNorms have weight 1 and bias 0."""
    plain = {"weight": 1.0, "bias": 0.0}
    return {
        name: torch.full_like(weight, plain[name.split(".")[-1]]) if "norm." in name else weight
        for name, weight in weights.items()
    }


def feed(hidden: Tensor, weights: dict[str, Tensor], activation=F.gelu) -> Tensor:
    """What the feed-forward network adds."""
    expand, contract = (
        (weights[f"feed_forward.{part}.weight"], weights[f"feed_forward.{part}.bias"])
        for part in ("expand", "contract")
    )
    return F.linear(activation(F.linear(hidden, *expand)), *contract)


def norm(total: Tensor, weights: dict[str, Tensor], which: str = "feed_forward_norm", eps=1e-12) -> Tensor:
    """LayerNorm with one of the layer's two pairs of vectors."""
    weight, bias = weights[f"{which}.weight"], weights[f"{which}.bias"]
    return F.layer_norm(total, weight.shape, weight, bias, eps)


def standardised(total: Tensor, dims, unbiased: bool = False) -> Tensor:
    """Mean 0 and variance 1 over these dimensions."""
    return (total - total.mean(dims, keepdim=True)) / total.std(dims, unbiased=unbiased, keepdim=True)


def norm_of_one_token(answer, draw):
    """one token, a network that adds nothing: LayerNorm of the token itself"""
    weights = with_plain_norms(adding_nothing(draw_weights(draw, 4, 6)))
    hidden = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=FLOAT64)
    found = tensor_of(answer(hidden, weights), hidden)
    if torch.allclose(found, hidden) or torch.allclose(found, 0 * hidden):
        say_what_is_missing(answer, hidden, weights)
    expect(
        found,
        torch.tensor([[[-1.34164079, -0.4472136, 0.4472136, 1.34164079]]], dtype=FLOAT64),
        "The network's last matrix and bias are 0 here, so that it adds nothing, and LayerNorm's weight is "
        "1. For the vector (1, 2, 3, 4) the result must be (-1.342, -0.447, 0.447, 1.342).",
        suspects={
            "The variance is the one for samples, with H - 1 below: LayerNorm divides by H.": standardised(
                hidden, -1, unbiased=True
            ),
            "The mean is subtracted, and the rest not divided by the standard deviation.": hidden - 2.5,
            "The rest is divided by the variance. It must be its root, the standard deviation.": (
                hidden - 2.5
            )
            / 1.25,
        },
        tolerance=1e-6,
    )


def say_what_is_missing(answer, hidden, weights):
    """Why a token comes out as it came in, or as 0: by what happens when the network adds a fixed vector."""
    added = torch.tensor([3.0, 0.0, 0.0, 1.0], dtype=FLOAT64)
    expect(
        answer(hidden, {**weights, "feed_forward.contract.bias": added}),
        standardised(hidden + added, -1),
        "When the network adds nothing, a token must come out normalised: mean 0, variance 1. Yours is 0 or "
        "what it was.",
        suspects={
            "A token comes out as it came in, plus what the network adds. If LayerNorm stands before the "
            "network, this is pre-LN. BERT is post-LN: LayerNorm comes last, and is applied to the sum.": (
                hidden + added
            ),
            "The residual goes past LayerNorm: you add what came in to the normalised result of the network. "
            "BERT is post-LN: LayerNorm is applied to the sum.": hidden + standardised(added, -1),
            "When the network adds nothing, nothing is left. Where is the residual? LayerNorm is applied to "
            "the sum of what came in and what the network makes of it.": standardised(added, -1).expand(
                1, 1, 4
            ),
            "One token alone comes out as 0: its mean is taken over the tokens, and it is the only one. Take "
            "the mean over its components, the last dimension.": 0 * hidden,
        },
    )


def norm_of_each_token(answer, draw):
    """several tokens: each has its own mean and variance"""
    weights = with_plain_norms(adding_nothing(draw_weights(draw, 6, 8)))
    hidden = draw.normal(2, 5, 6, dtype=FLOAT64) + draw.normal(2, 5, 1, dtype=FLOAT64)
    expect(
        answer(hidden, weights),
        standardised(hidden, -1),
        "For one token you were right; with several, mean and variance must still come from one token's own "
        "components, the last dimension.",
        suspects={
            "Mean and variance are taken over all tokens of a sequence. Each has its own.": standardised(
                hidden, (-2, -1)
            ),
            "Mean and variance are taken over the whole batch. Each token has its own.": standardised(
                hidden, (0, 1, 2)
            ),
        },
        tolerance=1e-6,
    )


def eps_inside(answer, draw):
    """eps stands inside the root"""
    weights = with_plain_norms(adding_nothing(draw_weights(draw, 6, 8)))
    hidden, eps = draw.normal(2, 5, 6, dtype=FLOAT64), 0.5
    centred = hidden - hidden.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    expect(
        answer(hidden, weights, eps),
        centred / (variance + eps).sqrt(),
        "With eps = 0.5, the result must be (x - mean) / sqrt(variance + eps).",
        suspects={
            "eps is added to the standard deviation, outside the root; it belongs "
            "inside, to the variance.": centred / (variance.sqrt() + eps),
            "eps changes nothing: use the argument.": centred / variance.sqrt(),
        },
        tolerance=1e-6,
    )


def norms_own_vectors(answer, draw):
    """LayerNorm's own weight and bias"""
    weights = adding_nothing(draw_weights(draw, 6, 8))
    hidden = draw.normal(2, 5, 6, dtype=FLOAT64)
    plain = standardised(hidden, -1)
    weight, bias = weights["feed_forward_norm.weight"], weights["feed_forward_norm.bias"]
    expect(
        answer(hidden, weights),
        norm(hidden, weights),
        "LayerNorm ends with its own two vectors, times `feed_forward_norm.weight` and plus its bias.",
        suspects={
            "LayerNorm's own two vectors are missing, `feed_forward_norm.weight` and `.bias`.": plain,
            "LayerNorm's bias is missing: plus `feed_forward_norm.bias`.": weight * plain,
            "LayerNorm's weight is missing: times `feed_forward_norm.weight`.": plain + bias,
            "These are the vectors of the layer's other norm, `attention_norm`: the one after the "
            "feed-forward network is `feed_forward_norm`.": norm(hidden, weights, "attention_norm"),
        },
        tolerance=1e-6,
    )


def the_network(answer, draw):
    """the feed-forward network, with the exact GELU"""
    weights = with_plain_norms(draw_weights(draw, 6, 9))
    hidden = draw.normal(2, 5, 6, dtype=FLOAT64)

    def changed(name, factor=0.0):
        return {**weights, name: factor * weights[name]}

    expect(
        answer(hidden, weights),
        norm(hidden + feed(hidden, weights), weights),
        "When the network adds nothing you are right; with the network on, not. It is expand, GELU, "
        "contract, and what comes in is added to what comes out, before LayerNorm.",
        suspects={
            "GELU is the tanh form: BERT's first release has the exact one, with erf.": norm(
                hidden + feed(hidden, weights, lambda x: F.gelu(x, approximate="tanh")), weights
            ),
            "The bend is ReLU; BERT has GELU.": norm(hidden + feed(hidden, weights, F.relu), weights),
            "There is no bend between the two matrices, so that they could be one: GELU is missing.": norm(
                hidden + feed(hidden, weights, lambda x: x), weights
            ),
            "The bias of `expand` is missing.": norm(
                hidden + feed(hidden, changed("feed_forward.expand.bias")), weights
            ),
            "The bias of `contract` is missing.": norm(
                hidden + feed(hidden, changed("feed_forward.contract.bias")), weights
            ),
        },
        tolerance=1e-5,
    )


def the_whole_half(answer, draw):
    """everything at once: the package's numbers, for any batch"""
    for B, T in ((1, 1), (2, 7)):
        weights = draw_weights(draw, 10, 13)
        hidden = draw.normal(B, T, 10, dtype=FLOAT64)
        expect(
            answer(hidden, weights),
            norm(hidden + feed(hidden, weights), weights),
            "Each part is right by itself, and together they do not give the package's numbers: are they in "
            "the right order?",
            tolerance=1e-7,
        )


HALF = Exercise(
    name="second_half",
    number="6.1",
    title="half a layer from its weights",
    kind="Rebuild",
    minutes=15,
    difficulty=2,
    goal="From the residual stream after attention (B, T, H) to the layer's output in evaluation, with "
    "nothing from `torch.nn`: only `@`, `torch.erf`, `torch.sqrt`, `.mean` and arithmetic.",
    hints=(
        "Five names are `feed_forward.expand.weight`, `feed_forward.expand.bias`, the two of `contract`, and "
        "`feed_forward_norm.weight`. Which sixth do you need?",
        "A linear layer stores its matrix as (outputs, inputs): `hidden @ weight.T + bias`.",
        "If you are off by about 0.0001, you took the tanh form of GELU. If by much more, look for the "
        "residual: LayerNorm is applied to the sum.",
    ),
    stub='''
def second_half(hidden, weights, eps=1e-12):
    """The stream after attention (B, T, H) and a layer's state_dict -> the layer's output (B, T, H)."""
    ...
''',
    mechanisms=(
        norm_of_one_token,
        norm_of_each_token,
        eps_inside,
        norms_own_vectors,
        the_network,
        the_whole_half,
    ),
    finished=("bert_edu.encoder.FeedForward", "bert_edu.encoder.EncoderLayer"),
    operations=("layer_norm", "native_layer_norm", "gelu", "linear"),
)


# ---- 6.2 ---------------------------------------------------------------------------------------------------


def shapes_of(answer, config) -> dict[str, list[int]]:
    """A driver: the shapes of what the class's `state_dict` holds."""
    module = answer(config)
    if not isinstance(module, nn.Module):
        raise Wrong("GatedFeedForward must be an nn.Module: write `class GatedFeedForward(nn.Module)`.")
    return {name: list(weight.shape) for name, weight in module.state_dict().items()}


def forward_with(answer, config, state: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """A driver: what a module of the class makes of `hidden`, with these weights."""
    module = answer(config)
    module.load_state_dict(state)
    return module.eval()(hidden)


def forward_in_layer(answer, config, hidden: Tensor) -> Tensor:
    """A driver: the output of a whole layer that has the module in the place of its feed-forward network."""
    layer = EncoderLayer(config).eval()
    layer.feed_forward = answer(config)
    return layer(hidden)[0]


def small_config(**changes) -> BertConfig:
    sizes = dict(hidden_size=12, num_attention_heads=3, intermediate_size=30)
    return BertConfig(**(sizes | changes))


PARTS = ("gate", "expand", "contract")


def inner_width(answer, config: BertConfig) -> int:
    """The class's inner width, once its parts are what they should be."""
    H, shapes = config.hidden_size, answer.via(shapes_of, config)
    if not shapes:
        raise NotYet("It has no layers so far.")
    wanted = {f"{part}.{kind}" for part in PARTS for kind in ("weight", "bias")}
    if not wanted <= set(shapes):
        missing = sorted(wanted - set(shapes))
        if all(name.endswith(".bias") for name in missing):
            raise Wrong(f"The linear layers lack their biases: {', '.join(missing)}.")
        absent = [part for part in PARTS if f"{part}.weight" in missing]
        raise Wrong(
            f"The module needs three linear layers, called gate, expand and contract. There is no "
            f"{', no '.join(absent)}."
        )
    if set(shapes) - wanted:
        raise Wrong(
            f"Three linear layers are enough; there is also {', '.join(sorted(set(shapes) - wanted))}."
        )
    M = shapes["gate.weight"][0]
    for part, shape in (("gate", [M, H]), ("expand", [M, H]), ("contract", [H, M])):
        if shapes[f"{part}.weight"] != shape:
            raise Wrong(
                f"`{part}` must lead from {shape[1]} to {shape[0]} numbers; its weight has the shape "
                f"{tuple(shapes[f'{part}.weight'])}. gate and expand: from H to the inner width; contract: "
                "back."
            )
    return M


def draw_gated(draw, config: BertConfig, M: int) -> dict[str, Tensor]:
    shapes = {"gate": (M, config.hidden_size), "expand": (M, config.hidden_size)}
    shapes["contract"] = (config.hidden_size, M)
    state = {}
    for part, shape in shapes.items():
        state[f"{part}.weight"], state[f"{part}.bias"] = 0.5 * draw.normal(*shape), draw.normal(shape[0])
    return state


def gated(hidden: Tensor, state: dict[str, Tensor], gate=F.gelu, join=torch.mul, expand=lambda x: x):
    """W2 (gate(Wg x + bg) * (W1 x + b1)) + b2."""
    opened = gate(F.linear(hidden, state["gate.weight"], state["gate.bias"]))
    carried = expand(F.linear(hidden, state["expand.weight"], state["expand.bias"]))
    return F.linear(join(opened, carried), state["contract.weight"], state["contract.bias"])


def its_parts(answer, draw):
    """three linear layers: gate, expand, contract"""
    inner_width(answer, small_config())


def gate_alone(answer, draw):
    """the gate is bent by GELU"""
    config = small_config()
    state = draw_gated(draw, config, inner_width(answer, config))
    state |= {
        "expand.weight": 0 * state["expand.weight"],
        "expand.bias": torch.ones_like(state["expand.bias"]),
    }
    hidden = draw.normal(4, 1, 12)  # one token a sequence
    expect(
        answer.via(forward_with, config, state, hidden),
        gated(hidden, state),
        "When `expand` gives 1 for every input, what is left must be an ordinary network of gate, GELU and "
        "contract. Yours is not.",
        suspects={
            "GELU stands on `expand`; it belongs on the gate.": gated(
                hidden, state, gate=lambda x: x, expand=F.gelu
            ),
            "The gate has no GELU.": gated(hidden, state, gate=lambda x: x),
            "What comes in is added to the result; the residual is the layer's business.": hidden
            + gated(hidden, state),
            "The gate is a sigmoid (that is GLU); GEGLU has GELU there.": gated(hidden, state, torch.sigmoid),
            "The gate is SiLU (that is SwiGLU); GEGLU has GELU there.": gated(hidden, state, F.silu),
            "The gate is ReLU (that is ReGLU); GEGLU has GELU there.": gated(hidden, state, F.relu),
            "Gate and expand are added up; they must be multiplied, number by number.": gated(
                hidden, state, join=torch.add
            ),
            "GELU stands on both; it belongs on the gate alone.": gated(hidden, state, expand=F.gelu),
        },
        tolerance=1e-4,
    )


def the_formula(answer, draw):
    """gate times expand, number by number"""
    config = small_config()
    state = draw_gated(draw, config, inner_width(answer, config))
    hidden = draw.normal(4, 1, 12)  # one token a sequence
    ones = dict(
        state, **{"expand.weight": 0 * state["expand.weight"], "expand.bias": 0 * state["expand.bias"] + 1}
    )
    expect(
        answer.via(forward_with, config, state, hidden),
        gated(hidden, state),
        "With `expand` held at 1 you were right; with real weights the result is not W2 (GELU(Wg x + bg) * "
        "(W1 x + b1)) + b2.",
        suspects={
            "`expand` is not used at all.": gated(hidden, ones),
            "GELU is applied to the product; it belongs on the gate, before the product.": gated(
                hidden, state, gate=lambda x: x, join=lambda opened, carried: F.gelu(opened * carried)
            ),
        },
        tolerance=1e-4,
    )


def each_token_alone(answer, draw):
    """each token by itself, and it fits into a layer"""
    config = small_config()
    state = draw_gated(draw, config, inner_width(answer, config))
    hidden = draw.normal(3, 4, 12)
    together = answer.via(forward_with, config, state, hidden)
    expect(
        answer.via(forward_with, config, state, hidden[1:2, 2:3]),
        together[1:2, 2:3],
        "A token on its own gives another result than the same token among others: the network must work on "
        "each token by itself.",
        tolerance=1e-4,
    )
    expect(
        0 * answer.via(forward_in_layer, config, hidden),
        torch.zeros(3, 4, 12),
        "In a layer, `layer.feed_forward = GatedFeedForward(config)`, the result is not finite.",
    )


def as_many_parameters(answer, draw):
    """as many parameters as BERT's network, within 1 %"""
    for H, inner in ((96, 384), (64, 1000), (100, 151)):
        config = small_config(hidden_size=H, num_attention_heads=1, intermediate_size=inner)
        M = inner_width(answer, config)
        ours, ordinary = 3 * H * M + 2 * M + H, 2 * H * inner + inner + H
        if abs(ours / ordinary - 1) < 0.01:
            continue
        message = (
            f"For H = {H} and I = {inner} BERT's network has {ordinary:,} parameters, and yours, with inner "
            f"width {M}, {ours:,}."
        )
        if M == inner:
            message += " A third matrix makes it half as large again: the inner width must be smaller than I."
        elif M == inner // 2:
            message += (
                " Half of I is too little: three matrices of width M must be as large as two of width I."
            )
        elif inner != 4 * H:
            message += " You seem to take I for 4 H: read it from the configuration."
        raise Wrong(message)


GATED = Exercise(
    name="GatedFeedForward",
    number="6.2",
    title="a gate in the feed-forward network",
    kind="Extend",
    minutes=20,
    difficulty=2,
    goal="`class GatedFeedForward(nn.Module)` with `__init__(self, config)` and the linear layers `gate`, "
    "`expand`, `contract`: W2 (GELU(Wg x + bg) * (W1 x + b1)) + b2, with as many parameters as BERT's "
    "network, within 1 %.",
    hints=(
        "Count matrices only: BERT's network has $2HI$ weights. Yours, with inner width $M$, has three "
        "matrices.",
        "$3HM = 2HI$. Round to a whole number.",
        "A check: if `expand` gives 1 for every input (weight 0, bias 1), what is left is an ordinary "
        "feed-forward network made of `gate` and `contract`.",
    ),
    stub='''
class GatedFeedForward(nn.Module):
    """GEGLU: (B, T, H) -> (B, T, H), with gate, expand and contract."""

    def __init__(self, config):
        super().__init__()
        ...

    def forward(self, hidden):
        ...
''',
    mechanisms=(its_parts, gate_alone, the_formula, each_token_alone, as_many_parameters),
    finished=("bert_edu.encoder.FeedForward.forward",),
    wants="class",
)


# ---- 6.3 ---------------------------------------------------------------------------------------------------


class Layer(EncoderLayer):
    """A layer as the chapter has it: it returns the tokens alone."""

    def forward(self, hidden, *, bias=None):
        read, _ = self.attention(hidden, bias=bias)
        hidden = self.attention_norm(self.after_attention(hidden, read))
        worked = self.feed_forward(hidden)
        return self.feed_forward_norm(self.after_feed_forward(hidden, worked))

    def after_attention(self, hidden, read):
        return hidden + self.dropout(read)

    def after_feed_forward(self, hidden, worked):
        return hidden + self.dropout(worked)


class BlockedAfterAttention(Layer):
    """Dropout also falls on the road, at the first of the two places."""

    def after_attention(self, hidden, read):
        return self.dropout(hidden + read)


class BlockedAfterFeedForward(Layer):
    """Dropout also falls on the road, at the second of the two places."""

    def after_feed_forward(self, hidden, worked):
        return self.dropout(hidden + worked)


class Colleagues(BlockedAfterAttention, BlockedAfterFeedForward):
    """The layer of the exercise: both."""


def a_layer(kind: type[Layer], draw, train: bool, plain_norms: bool = True) -> Layer:
    """A layer of one of these kinds, with weights of its own."""
    layer = kind(BertConfig(hidden_size=12, num_attention_heads=3, intermediate_size=20))
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "norm" not in name or not plain_norms:
                parameter.copy_(0.4 * draw.normal(*parameter.shape))
    return layer.train(train)


def silenced(layer: Layer, *names: str) -> Layer:
    """A copy of the layer in which these linear layers give 0."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        for name in names:
            for parameter in layer.get_submodule(name).parameters():
                parameter.zero_()
    return layer


def verdict(answer, layer, times: int = 1) -> list[bool]:
    """A driver: what the answer says of a layer, as often as asked; and it must be a truth value."""
    said = []
    for _ in range(times):
        given = answer(layer)
        if given is None:
            raise NotYet("It returns None.")
        if not isinstance(given, (bool, int, Tensor)) and type(given).__name__ != "bool_":
            raise Wrong(f"road_is_clear must return True or False, and returned a {type(given).__name__}.")
        said.append(bool(given))
    return said


ADDS = {"attention": "attention.output", "the feed-forward network": "feed_forward.contract"}


def the_chapters_layer(answer, draw):
    """the chapter's layer: the road is clear"""
    layer = a_layer(Layer, draw, train=False)
    if all(answer.via(verdict, layer, 3)):
        return
    blocked = "Your check says of the chapter's own layer that its road is blocked. "
    reason = "Dropout falls on what the sublayers add, and may: it is not on the road. "
    for sublayer, last in ADDS.items():  # a layer in which one sublayer adds nothing anyhow
        half_silent = silenced(layer, last)
        if all(answer.via(verdict, half_silent, 3)):
            raise Wrong(f"{blocked}{reason}You have not silenced what {sublayer} adds.")
    if all(answer.via(verdict, silenced(layer, *ADDS.values()), 3)):
        raise Wrong(f"{blocked}{reason}In a copy, set what the sublayers add to zero, and look at the rest.")
    raise Wrong(
        f"{blocked}It says so whichever layer it is given, even one in which dropout touches nothing."
    )


def the_colleagues_layer(answer, draw):
    """the colleague's layer: it is not"""
    if any(answer.via(verdict, a_layer(Colleagues, draw, train=True), 3)):
        raise Wrong(
            "Your check does not find the bug: of the colleague's layer, in training, it says that the road "
            "is clear. In training the layer drops parts of hidden + read, and so of hidden itself."
        )


def in_evaluation(answer, draw):
    """a layer that comes in evaluation is tried in training"""
    if any(answer.via(verdict, a_layer(Colleagues, draw, train=False), 3)):
        raise Wrong(
            "When the colleague's layer comes in evaluation, your check finds nothing: dropout is off there. "
            "Switch a copy to training."
        )


def either_place(answer, draw):
    """one blocked place is enough"""
    for kind, place in ((BlockedAfterAttention, "attention"), (BlockedAfterFeedForward, "feed-forward")):
        if any(answer.via(verdict, a_layer(kind, draw, train=False), 3)):
            raise Wrong(
                f"A layer that drops parts of the road after {place} only, and is right in the other place, "
                "passes your check."
            )


def trained_norms(answer, draw):
    """norms with weights of their own do not block it"""
    if not all(answer.via(verdict, a_layer(Layer, draw, train=False, plain_norms=False), 3)):
        raise Wrong(
            "With trained norms, whose weight is not 1, your check says of a good layer that its road is "
            "blocked. What must come out is the two norms of what came in, not what came in, nor a plain "
            "LayerNorm of it."
        )


def before_and_after(answer, layer) -> bool:
    """A driver: whether the layer is after a check what it was before."""
    before, training = {name: w.clone() for name, w in layer.state_dict().items()}, layer.training
    call(answer, layer)
    if any(part.training != training for part in layer.modules()):
        raise Wrong(
            "After your check the layer is in another mode: it came in evaluation, and is in training now. "
            "Work on a deep copy."
        )
    if not all(torch.equal(before[name], weight) for name, weight in layer.state_dict().items()):
        raise Wrong("After your check the layer's weights are not what they were. Work on a deep copy.")
    return True


def left_as_it_was(answer, draw):
    """the layer is left as it was"""
    for kind in (Layer, Colleagues):
        answer.via(before_and_after, a_layer(kind, draw, train=False))
    the_chapters_layer(answer, draw)
    the_colleagues_layer(answer, draw)


ROAD = Exercise(
    name="road_is_clear",
    number="6.3",
    title="a layer that passes every test",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="A layer like the chapter's `EncoderLayer` -> True if dropout leaves the residual road alone, False "
    "if, as in the colleague's layer, it does not. The layer is left as it was.",
    hints=(
        "Evaluation switches one part off. So the bug can only be there.",
        "Compare with the picture at the top: where does dropout stand?",
        "Set the last matrix and bias of both sublayers to zero in a deep copy: they now add nothing. In "
        "training, what should the layer give, and what does a layer give that drops parts of the road?",
    ),
    stub='''
def road_is_clear(layer):
    """A layer with the parts of the chapter's EncoderLayer -> True or False."""
    ...
''',
    mechanisms=(
        the_chapters_layer,
        the_colleagues_layer,
        in_evaluation,
        either_place,
        trained_norms,
        left_as_it_was,
    ),
    changes_input=True,  # the last mechanism looks at that, in more detail
)

EXERCISES = (HALF, GATED, ROAD)
