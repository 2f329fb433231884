"""Exercises of chapter 7, the whole model: is what we built BERT?"""

import torch
from torch import Tensor, nn

from ..config import BertConfig
from ..encoder import EncoderLayer
from ..model import BertModel
from ..pretrained import published_names
from .engine import Exercise
from .sandbox import NotYet, Wrong

# ---- 7.1 ---------------------------------------------------------------------------------------------------


def draw_state(draw) -> dict[str, Tensor]:
    """The state dict of a small BertModel, in which no two tensors are alike."""
    config = BertConfig(
        vocab_size=11,
        hidden_size=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=9,
        max_position_embeddings=7,
    )
    state = BertModel(config).state_dict()
    return {name: draw.normal(*weight.shape) for name, weight in state.items()}


def right_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers under the published names."""
    published = {}
    for name, tensor in state.items():
        names = published_names(name)
        published |= zip(names, tensor.chunk(len(names)))
    return published


class Renamed:
    """What an answer made of a state dict, beside what is right."""

    def __init__(self, answer, draw):
        state = draw_state(draw)
        self.found, self.right = answer(state), right_names(state)
        if self.found is None:
            raise NotYet("It returns None.")
        if not isinstance(self.found, dict):
            raise Wrong(f"The result must be a dict, and is of type {type(self.found).__name__}.")

    def need(self, part: str, hints: dict[str, str]):
        """Raises `Wrong` unless all published names with this part are there, with the right tensors.

        Args:
            hints: a name or part of one that an answer with a certain mistake has -> what to say then.
        """
        for name, tensor in self.right.items():
            if part not in name:
                continue
            if name not in self.found:
                said = next(
                    (said for wrong, said in hints.items() if any(wrong in key for key in self.found)), ""
                )
                raise Wrong(f"There is nothing under the name {name!r}. {said}")
            found = self.found[name]
            if not isinstance(found, Tensor) or found.shape != tensor.shape:
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise Wrong(f"{name!r} must have the shape {tuple(tensor.shape)}, and yours is {shape}.")
            if not torch.equal(found.to(tensor.dtype), tensor):
                owner = next((key for key, other in self.right.items() if other.shape == found.shape
                              and torch.equal(found.to(other.dtype), other)), None)  # fmt: skip
                whose = f": these are the numbers of {owner!r}" if owner else ""
                raise Wrong(f"{name!r} has other numbers than it should{whose}.")


def embeddings_and_pooler(answer, draw):
    """the three tables, their LayerNorm, and the pooler"""
    renamed = Renamed(answer, draw)
    if any(name.startswith("bert.") for name in renamed.found):
        raise Wrong(
            "Your names begin with `bert.`: files of models with a head have that, a BertModel by itself has "
            "not."
        )
    renamed.need(
        "_embeddings", {"embeddings.token": "The tables are word_, position_ and token_type_embeddings."}
    )
    renamed.need("embeddings.", {"embeddings.norm": "The norm of the embeddings is called LayerNorm there."})
    renamed.need("pooler", {"": "The pooler has the same name in both: keep what needs no other name."})


def feed_forward(answer, draw):
    """the feed-forward network of each layer"""
    renamed = Renamed(answer, draw)
    renamed.need(
        "intermediate", {"encoder.layers": "The published list of layers is called `layer`, without s."}
    )
    renamed.need(
        ".output.dense",
        {"attention.output.weight": "The output projection of attention is called attention.output.dense."},
    )
    renamed.need(".output.LayerNorm", {
        "dense.LayerNorm": "Yours has attention.output.dense.LayerNorm: one of your replacements fits in the "
                           "middle of a name that another one made. Let both names of a pair end with a dot.",
        "feed_forward_norm": "feed_forward_norm is called output.LayerNorm there.",
        "attention_norm": "attention_norm is called attention.output.LayerNorm there.",
    })  # fmt: skip


def query_key_value(answer, draw):
    """query, key and value apart"""
    renamed = Renamed(answer, draw)
    if any("query_key_value" in name or "qkv" in name for name in renamed.found):
        raise Wrong(
            "There is still a query_key_value: the published file has query, key and value apart. Cut the "
            "weight (3H, H) into three of (H, H), and the bias (3H,) into three of (H,)."
        )
    renamed.need(
        "self.",
        {
            "attention.query": "query, key and value stand under attention.self there.",
            "": "query, key and value stand under attention.self.",
        },
    )


def nothing_else(answer, draw):
    """nothing missing, and nothing more"""
    renamed = Renamed(answer, draw)
    renamed.need("", {})
    more = sorted(set(renamed.found) - set(renamed.right))
    if more:
        raise Wrong(
            "`strict=True` also refuses what a model does not know: "
            f"{', '.join(more[:3])}{' and others' if len(more) > 3 else ''} should not be there."
        )


NAMES = Exercise(
    name="published_names_of",
    number="7.1",
    title="the way back",
    kind="Rebuild",
    minutes=20,
    difficulty=2,
    goal="The state dict of our `Bert` -> a dict of the same numbers under the published names, with query, "
    "key and value apart.",
    hints=(
        "Turn the pairs of `RENAMED` round. Which of them could now fit where it should not? Think of "
        "`attention.output`.",
        "`tensor.chunk(3)` cuts a weight of shape (3H, H) into three of (H, H), and a bias of (3H,) into "
        "three of (H,).",
        "End both names of a pair with a dot, so that `attention.output.` does not fit in the middle of "
        "another name. And undo the pairs in the opposite order: `reversed(RENAMED.items())`.",
    ),
    stub='''
def published_names_of(state):
    """The state dict of our Bert -> a dict of published names and tensors."""
    ...
''',
    mechanisms=(embeddings_and_pooler, feed_forward, query_key_value, nothing_else),
    finished=("bert_edu.pretrained",),
)


# ---- 7.2 ---------------------------------------------------------------------------------------------------

SHARED_CONFIG = BertConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=9,
)


def facts(answer, config: BertConfig) -> dict:
    """A driver: builds a model, lets the answer share its layers, and says what it has become."""
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    before = [[weight.clone() for weight in layer.parameters()] for layer in model.encoder.layers]
    embeddings = [weight.clone() for weight in model.embeddings.parameters()]
    shared = answer(model)
    if shared is None:
        return {"kind": "None"}
    if not isinstance(shared, BertModel):
        return {"kind": type(shared).__name__}
    layers = list(shared.encoder.layers)
    if not layers or not all(isinstance(layer, EncoderLayer) for layer in layers):
        raise Wrong("`model.encoder.layers` must still hold encoder layers, and does not.")
    ids = torch.arange(10).view(2, 5)
    with torch.no_grad():
        hidden = shared.embeddings(ids)
        states = [hidden]
        for _ in range(config.num_hidden_layers):
            states.append(layers[0](states[-1])[0])
        result = shared(ids).last_hidden_state

    def changes(first, second):
        return not all(map(torch.equal, first, second))

    return {
        "kind": "BertModel",
        "same": shared is model,
        "layers": len(layers),
        "parameters": sum(weight.numel() for weight in shared.parameters()),
        "attention": sum(weight.numel() for weight in shared.encoder.layers[0].attention.parameters()),
        "layer": sum(weight.numel() for weight in layers[0].parameters()),
        "steps": [bool(torch.allclose(result, state, atol=1e-4)) for state in states],
        "new": all(changes(list(layers[0].parameters()), old) for old in before),
        "embeddings changed": changes(list(shared.embeddings.parameters()), embeddings),
        "equal": all(not changes(list(layer.parameters()), list(layers[0].parameters())) for layer in layers),
    }


def found_facts(answer) -> dict:
    found = answer.via(facts, SHARED_CONFIG)
    if found["kind"] == "None":
        raise NotYet("It returns None: after changing the model, return it.")
    if found["kind"] != "BertModel":
        raise Wrong(f"share_layers must return the model, and returns an object of type {found['kind']}.")
    return found


def returns_the_model(answer, draw):
    """it returns the model it was given, its embeddings as they were"""
    found = found_facts(answer)
    if not found["same"]:
        raise Wrong("This is another model. `share_layers` changes the one that it is given, and returns it.")
    if found["embeddings changed"]:
        raise Wrong("The embeddings have changed; only the layers are to be shared.")
    one_set_of_weights(answer, draw)


def one_set_of_weights(answer, draw):
    """the parameters are those of one layer"""
    found, L = found_facts(answer), SHARED_CONFIG.num_hidden_layers
    whole = sum(weight.numel() for weight in BertModel(SHARED_CONFIG).parameters())
    too_many = found["parameters"] - (whole - (L - 1) * found["layer"])
    if too_many == (L - 1) * found["layer"]:
        if found["equal"]:
            raise Wrong(
                "The layers have equal weights, but each has its own: they are copies. After one step of "
                "training they differ. Put the same object in every place."
            )
        raise Wrong("Every layer still has weights of its own: nothing is shared.")
    if too_many == (L - 1) * (found["layer"] - found["attention"]):
        raise Wrong("Only the attention is shared: feed-forward networks and norms are still one per layer.")
    if too_many > 0:
        raise Wrong(
            f"There are {too_many:,} parameters more than with one layer's weights: some part of the layers "
            "is not shared."
        )
    if too_many < 0:
        raise Wrong(
            f"There are {-too_many:,} parameters fewer than one layer and the rest of the model have."
        )


def takes_all_steps(answer, draw):
    """the forward pass still takes L steps"""
    found, L = found_facts(answer), SHARED_CONFIG.num_hidden_layers
    if found["steps"][L]:
        return
    if found["steps"][1]:
        raise Wrong(
            f"The forward pass takes one step where it must take {L}: one layer's weights, in every one of "
            f"{L} places."
        )
    raise Wrong(
        f"The forward pass does not equal running the first of its layers {L} times on the embeddings."
    )


def a_layer_of_its_own(answer, draw):
    """the weights are those of one of the model's layers"""
    if found_facts(answer)["new"]:
        raise Wrong(
            "The shared layer has new weights: none of the model's layers had these. Take one of the model's "
            "own, so that what it has learned is not lost."
        )
    one_set_of_weights(answer, draw)


SHARE = Exercise(
    name="share_layers",
    number="7.2",
    title="one layer for all",
    kind="Extend",
    minutes=25,
    difficulty=2,
    goal="Change a `BertModel` so that all its L layers are the same object, and return it: the parameters "
    "of one layer, the steps of L.",
    hints=(
        "`model.encoder.layers` is an `nn.ModuleList`, and a module may stand in it more than once.",
        "`model.parameters()` gives each tensor once, however many places it stands in. `model.state_dict()` "
        "does not.",
        "`nn.ModuleList([first] * L)`. For the count, `parameter_counts` of a configuration with one layer "
        "is all you need.",
    ),
    stub='''
def share_layers(model):
    """A BertModel -> the same model, with one layer's weights in every place."""
    ...
''',
    mechanisms=(one_set_of_weights, takes_all_steps, a_layer_of_its_own, returns_the_model),
    changes_input=True,
)


# ---- 7.3 ---------------------------------------------------------------------------------------------------


class Pretended(nn.Module):
    """Behaves like the chapter's Bert, and does something known when a sentence is padded.

    Args:
        shift: (H,) what is added to the vectors of real tokens in a padded row.
        where: to which of them: "all", or "last", the last real one.
        on_padding: what the padded tokens' own vectors are.
        pooled_shift: what is added to the pooled vector of a padded row.
    """

    def __init__(self, shift=(0.0, 0.0, 0.0), where="all", on_padding=0.0, pooled_shift=0.0):
        super().__init__()
        self.shift, self.where, self.on_padding = torch.tensor(shift), where, on_padding
        self.pooled_shift = pooled_shift
        self.seen: list[tuple[int, bool]] = []  # for each call: its T, and whether a mask hid anything

    def forward(self, input_ids, *, attention_mask=None, token_type_ids=None):
        B, T = input_ids.shape
        mask = torch.ones(B, T) if attention_mask is None else attention_mask.float()  # (B, T)
        self.seen.append((T, bool((mask == 0).any())))
        H = len(self.shift)
        own = torch.sin(
            0.37 * input_ids[..., None] + 1.3 * torch.arange(T)[:, None] + torch.arange(H)
        )  # (B, T, H)
        real = mask[..., None]  # (B, T, 1)
        hidden = own + (own * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
        padded = (mask == 0).any(dim=1)[:, None, None]  # (B, 1, 1): is there padding in this row?
        reached = real if self.where == "all" else real - torch.nn.functional.pad(real, (0, 0, 0, 1))[:, 1:]
        hidden = hidden * real + padded * reached * self.shift + (1 - real) * self.on_padding
        return hidden, torch.tanh(hidden[:, 0]) + self.pooled_shift * padded[:, 0]


def measure(answer, model: Pretended) -> tuple[float, list[tuple[int, bool]]]:
    """A driver: the answer's number, and what it has shown the model."""
    said = answer(model)
    if said is None:
        raise NotYet("It returns None.")
    if isinstance(said, bool) or not isinstance(said, (int, float, Tensor)):
        raise Wrong(f"padding_matters must return a number, and returns a {type(said).__name__}.")
    if isinstance(said, Tensor) and said.numel() != 1:
        raise Wrong(
            f"padding_matters must return one number, and returns a tensor of shape {tuple(said.shape)}."
        )
    return float(said), model.seen


def number(answer, model: Pretended) -> float:
    return answer.via(measure, model)[0]


def a_right_model(answer, draw):
    """a model that ignores padding: 0"""
    said, seen = answer.via(measure, Pretended())
    if said < 1e-3:
        return
    if not any(hidden for _, hidden in seen):
        raise Wrong(
            f"For a model that ignores padding you get {said:.2f}, and it must be 0. The model is never told "
            "what is padding: pass `attention_mask`."
        )
    raise Wrong(
        f"For a model that ignores padding you get {said:.2f}, and it must be 0: compare each real token "
        "alone with the same token of the same sentence in the padded batch."
    )


def a_wrong_model(answer, draw):
    """a model that reads padding: how far off it is"""
    said = number(answer, Pretended(shift=(0.75, 0.75, 0.75)))
    if abs(said - 0.75) < 1e-3:
        return
    if number(answer, Pretended(pooled_shift=0.5)) > 1e-3:
        raise Wrong(
            "You compare the pooled vectors. The vectors of the tokens are asked for: the first of the two "
            "things that the model returns."
        )
    if said == 0:
        raise Wrong(
            "A model that adds 0.75 to every number of a padded sentence gets a 0: it seems that you compare "
            "the sentence with itself. One of the two must stand in a padded batch."
        )
    raise Wrong(
        f"A model that adds 0.75 to every number of a padded sentence gets {said:.2f}, and must get 0.75. No "
        "sum, no square: the largest difference."
    )


def to_either_side(answer, draw):
    """differences to either side count"""
    said = number(answer, Pretended(shift=(-0.75, -0.75, -0.75)))
    if abs(said - 0.75) > 1e-3:
        raise Wrong(
            f"A model that *takes* 0.75 from every number of a padded sentence gets {said:.2f}, and must get "
            "0.75: take the absolute value of the differences."
        )


def the_largest(answer, draw):
    """the largest difference, wherever it is"""
    said = number(answer, Pretended(shift=(0.1, 0.6, 0.2)))
    if abs(said - 0.6) > 1e-3:
        kind = "the mean" if abs(said - 0.3) < 1e-3 else "another number" if said != said else f"{said:.2f}"
        raise Wrong(
            "When padding moves three numbers of each token by 0.1, 0.6 and 0.2, the largest difference is "
            f"0.6. You return {kind}."
        )
    said = number(answer, Pretended(shift=(0.4, 0.4, 0.4), where="last"))
    if abs(said - 0.4) > 1e-3:
        raise Wrong(
            f"When padding moves only the last real token, by 0.4, you return {said:.2f}: look at all real "
            "tokens, not at [CLS] alone."
        )


def real_tokens_alone(answer, draw):
    """the vectors of padded tokens do not count"""
    said = number(answer, Pretended(on_padding=9.0))
    if said > 1e-3:
        raise Wrong(
            f"When only the vectors of the padded tokens themselves are strange, you return {said:.2f}. "
            "Nobody reads these: compare the real tokens."
        )
    a_wrong_model(answer, draw)


def twenty_tokens(answer, draw):
    """the sentence is padded to 20 tokens"""
    a_wrong_model(answer, draw)
    _, seen = answer.via(measure, Pretended())
    widths = sorted({T for T, hidden in seen if hidden})
    if 20 not in widths:
        raise Wrong(f"The padded batch must be 20 tokens long; yours is {' and '.join(map(str, widths))}.")


PADDING = Exercise(
    name="padding_matters",
    number="7.3",
    title="right alone, wrong in company",
    kind="Find the bug",
    minutes=20,
    difficulty=3,
    goal="A model like the chapter's `Bert` -> the largest difference that padding a sentence to 20 tokens "
    "makes to the vectors of its real tokens.",
    hints=(
        "Write down the bias for a sentence without padding, and for one with two padded tokens. Which keys "
        "can still be read?",
        "Adding the same number to all scores changes nothing in exact arithmetic. How many decimals does "
        "float32 keep beside 10000?",
        "Compare `bias` with the result of `attention_bias(attention_mask, hidden.dtype)` from chapter 4.",
    ),
    stub='''
def padding_matters(model):
    """model(input_ids, attention_mask=...) gives (B, T, H) and (B, H) -> one number."""
    ...
''',
    mechanisms=(a_right_model, a_wrong_model, to_either_side, the_largest, real_tokens_alone, twenty_tokens),
    changes_input=True,  # it is given a model, which notes what it is asked
)

EXERCISES = (NAMES, SHARE, PADDING)
