"""Answers to the exercises of chapter 7."""

import copy

import torch
from torch import nn

from bert_edu import BertModel, BertTokenizer
from bert_edu.encoder import Encoder, EncoderLayer
from bert_edu.mini import FOLDER

from . import Answers, mistake

# ---- 7.1: published names ----------------------------------------------------------------------------------

RENAMED = {  # the chapter's
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.segment",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer": "encoder.layers",
    "attention.output.LayerNorm": "attention_norm",
    "attention.output.dense": "attention.output",
    "output.LayerNorm": "feed_forward_norm",
    "intermediate.dense": "feed_forward.expand",
    "output.dense": "feed_forward.contract",
}


def by_pairs(
    dots=True, cut="rows", order="qkv", under=".self", prefix="", pooler=True, skip=(), transposed=False
):
    """The chapter's pairs, turned round."""

    def published_names_of(state):
        published = {}
        for name, tensor in state.items():
            if name.startswith("pooler") and not pooler:
                continue
            end = "." if dots else ""
            pairs = reversed(RENAMED.items()) if dots else RENAMED.items()
            for theirs, mine in pairs:
                if mine not in skip:
                    name = name.replace(mine + end, theirs + end)
            if "query_key_value" in name and cut != "whole":
                if cut == "columns" and tensor.dim() == 2:
                    H = tensor.shape[1]
                    pieces = tensor.reshape(H, 3 * H).chunk(3, dim=1)
                elif cut == "interleaved":
                    pieces = [tensor[k::3] for k in range(3)]
                else:
                    pieces = tensor.chunk(3)
                names = {"q": "query", "k": "key", "v": "value"}
                for letter, piece in zip(order, pieces):
                    new = name.replace(".query_key_value", f"{under}.{names[letter]}")
                    published[prefix + new] = piece
            else:
                published[prefix + name] = tensor
        return published

    return published_names_of


def part_by_part(
    dots=True, cut="rows", order="qkv", under=".self", prefix="", pooler=True, skip=(), transposed=False
):
    """Takes each name apart at its dots."""

    def published_names_of(state):
        tables = {
            "token": "word_embeddings",
            "position": "position_embeddings",
            "segment": "token_type_embeddings",
            "norm": "LayerNorm",
        }
        layers = {
            "attention_norm": "attention.output.LayerNorm" if dots else "attention.output.dense.LayerNorm",
            "feed_forward_norm": "output.LayerNorm",
        }
        result = {}
        for name, tensor in state.items():
            first, *rest = name.split(".")
            if first == "embeddings":
                table, kind = rest
                new = [first, table if f"embeddings.{table}" in skip else tables[table], kind]
            elif first == "pooler":
                if not pooler:
                    continue
                new = [first, *rest]
            else:
                layers_name, number, *part, kind = rest
                list_name = layers_name if "encoder.layers" in skip else "layer"
                part = ".".join(part)
                if part in layers:
                    part = part if part in skip else layers[part]
                elif part == "attention.output":
                    part = part if part in skip else "attention.output.dense"
                elif part == "feed_forward.expand":
                    part = "intermediate.dense"
                elif part == "feed_forward.contract":
                    part = "output.dense"
                new = ["encoder", list_name, number, *part.split("."), kind]
            new = prefix + ".".join(new)
            if "query_key_value" in new and cut != "whole":
                size = len(tensor) // 3
                for k, letter in enumerate(order):
                    if cut == "columns" and tensor.dim() == 2:
                        piece = tensor.reshape(size, 3 * size)[:, k * size : (k + 1) * size]
                    elif cut == "interleaved":
                        piece = tensor[[3 * row + k for row in range(size)]]
                    else:
                        piece = tensor[k * size : (k + 1) * size]
                    word = {"q": "query", "k": "key", "v": "value"}[letter]
                    result[new.replace(".query_key_value", f"{under}.{word}")] = piece.clone()
            else:
                result[new] = tensor
        return result

    return published_names_of


class Translator:
    TABLE = [
        (".attention_norm.", [".attention.output.LayerNorm."]),
        (".feed_forward_norm.", [".output.LayerNorm."]),
        (".feed_forward.expand.", [".intermediate.dense."]),
        (".feed_forward.contract.", [".output.dense."]),
        (".attention.output.", [".attention.output.dense."]),
        ("embeddings.norm.", ["embeddings.LayerNorm."]),
        ("embeddings.token.", ["embeddings.word_embeddings."]),
        ("embeddings.segment.", ["embeddings.token_type_embeddings."]),
        ("embeddings.position.", ["embeddings.position_embeddings."]),
        (".query_key_value.", [".self.query.", ".self.key.", ".self.value."]),
    ]

    def __call__(self, state):
        result = {}
        for name, tensor in state.items():
            mine, theirs = next((row for row in self.TABLE if row[0] in name), ("", [""]))
            for new, piece in zip(theirs, torch.tensor_split(tensor, len(theirs))):
                key = name.replace(mine, new) if mine else name
                result[key.replace("layers", "layer")] = piece
        return result


NAMES = Answers(
    "published_names_of",
    styles={"pairs": by_pairs, "parts": part_by_part},
    right={"object": Translator()},
    wrong={
        "bert. in front": mistake("begin with `bert.`", prefix="bert."),
        "pooler forgotten": mistake("The pooler has the same name", pooler=False),
        "norm of the embeddings": mistake("The norm of the embeddings", skip=("embeddings.norm",)),
        "layers with s": mistake("without s", skip=("encoder.layers",)),
        "names that fit in others": mistake("one of your replacements fits in the middle", dots=False),
        "attention.output without dense": mistake(
            "The output projection of attention", skip=("attention.output",)
        ),
        "not cut": mistake("There is still a query_key_value", cut="whole"),
        "not under self": mistake("stand under attention.self there", under=""),
        "key before query": mistake("self.key.weight'.", order="kqv"),
        "value before key": mistake("self.value.weight'.", order="qvk"),
        "every third row": mistake("has other numbers than it should.", cut="interleaved"),
    },
    two_at_once=(dict(order="kqv", skip=("embeddings.norm",)), "norm of the embeddings"),
)


# ---- 7.2: one layer for all --------------------------------------------------------------------------------


def new_list(share="layer", copies=False, steps="all", returns="model", weights="first", where="here"):
    """A new list of layers."""

    def share_layers(model):
        L = len(model.encoder.layers)
        if where == "new model":
            model = BertModel(model.config).eval()
        first = model.encoder.layers[0]
        if weights == "new":
            first = EncoderLayer(model.config).eval()
        if share == "layer":
            layers = [copy.deepcopy(first) if copies else first for _ in range(L if steps == "all" else 1)]
            model.encoder.layers = nn.ModuleList(layers)
        elif share == "attention":
            for layer in model.encoder.layers:
                layer.attention = first.attention
        elif share == "feed-forward":
            for layer in model.encoder.layers:
                layer.feed_forward = first.feed_forward
        return {"model": model, "nothing": None, "encoder": model.encoder}[returns]

    return share_layers


def place_by_place(share="layer", copies=False, steps="all", returns="model", weights="first", where="here"):
    """Each place of the list gets the layer, or its parameters."""

    def share_layers(model):
        if where == "new model":
            config = model.config
            model = BertModel(config)
            model.eval()
        layers = model.encoder.layers
        last = layers[-1]
        if weights == "new":
            with torch.no_grad():
                for parameter in last.parameters():
                    parameter.normal_()
        if share == "layer" and copies:
            for layer in layers:
                layer.load_state_dict(last.state_dict())
        elif share == "layer":
            for place in range(len(layers)):
                layers[place] = last
            if steps == "one":
                del layers[1:]
        else:
            name = {"attention": "attention", "feed-forward": "feed_forward"}[share]
            for layer in layers:
                setattr(layer, name, getattr(last, name))
        if returns == "nothing":
            return None
        return model if returns == "model" else layers

    return share_layers


def tied_parameters(model):
    """The layers stay different objects, and all their parameters are the same."""
    first, *others = model.encoder.layers
    for other in others:
        for name, module in other.named_modules():
            for kind, parameter in first.get_submodule(name).named_parameters(recurse=False):
                setattr(module, kind, parameter)
    return model


class ShareLayers:
    def __call__(self, model):
        encoder = Encoder(model.config)
        for number in range(len(encoder.layers)):
            encoder.layers[number] = model.encoder.layers[1]
        model.encoder = encoder
        return model.eval()


SHARE = Answers(
    "share_layers",
    styles={"new list": new_list, "place by place": place_by_place},
    right={"tied parameters": tied_parameters, "object": ShareLayers()},
    wrong={
        "returns nothing": mistake("It returns None: after changing", returns="nothing"),
        "returns a part": mistake("must return the model, and returns a", returns="encoder"),
        "one step": mistake("takes one step where", steps="one"),
        "copies": mistake("they are copies", copies=True),
        "attention only": mistake("Only the attention is shared", share="attention"),
        "new weights": mistake("The shared layer has new weights", weights="new"),
    },
    two_at_once=(dict(steps="one", weights="new"), "one step"),
)


# ---- 7.3: does padding matter? -----------------------------------------------------------------------------

TOKENIZER = BertTokenizer.from_pretrained(FOLDER)
SENTENCE = "The ferry left the island late."


def by_batch(mask=True, sides="both", over="max", tokens="real", which="hidden", length=20, pads=True):
    """As in the chapter: a longer second text makes the padding."""

    def padding_matters(model):
        alone = TOKENIZER.batch([SENTENCE])
        if pads:
            padded = TOKENIZER.batch([SENTENCE, "word " * (length - 2)])
        else:
            padded = alone
        with torch.no_grad():
            short = model(alone.input_ids, attention_mask=alone.attention_mask if mask else None)
            long = model(padded.input_ids, attention_mask=padded.attention_mask if mask else None)
        if which == "pooled":
            difference = long[1][0] - short[1][0]
        else:
            T = alone.input_ids.shape[1]
            one, other = short[0][0], long[0][0]
            if tokens == "all":
                one = torch.cat([one, torch.zeros(len(other) - T, other.shape[-1])])
            elif tokens == "first":
                one, other = one[:1], other[:1]
            else:
                other = other[:T]
            difference = other - one
        if sides == "both":
            difference = difference.abs()
        return {"max": difference.max, "mean": difference.mean, "sum": difference.sum}[over]().item()

    return padding_matters


def by_zeros(mask=True, sides="both", over="max", tokens="real", which="hidden", length=20, pads=True):
    """Fills up the ids with [PAD], number by number."""

    def padding_matters(model):
        ids = TOKENIZER(SENTENCE).input_ids
        missing = length - len(ids) if pads else 0
        row = torch.tensor([ids + [TOKENIZER.pad_token_id] * missing])
        masks = torch.tensor([[1] * len(ids) + [0] * missing])
        short, short_pooled = model(torch.tensor([ids]))
        long, long_pooled = model(row, attention_mask=masks) if mask else model(row)
        if which == "pooled":
            short, long = short_pooled[:, None], long_pooled[:, None]
        differences = []
        places = {"real": range(short.shape[1]), "first": [0], "all": range(long.shape[1])}[tokens]
        for t in places:
            for h in range(short.shape[2]):
                before = short[0, t, h].item() if t < short.shape[1] else 0.0
                after = long[0, t, h].item()
                differences.append(abs(after - before) if sides == "both" else after - before)
        if over == "mean":
            return sum(differences) / len(differences)
        return sum(differences) if over == "sum" else max(differences)

    return padding_matters


class PaddingMatters(nn.Module):
    def forward(self, model):
        text = TOKENIZER("it was late").input_ids
        row = torch.nn.functional.pad(torch.tensor([text]), (0, 20 - len(text)))
        both = [model(row[:, :T], attention_mask=(row[:, :T] != 0).long())[0] for T in (len(text), 20)]
        return torch.dist(both[0], both[1][:, : len(text)], p=float("inf"))


PADDING = Answers(
    "padding_matters",
    styles={"batch": by_batch, "filled up": by_zeros},
    right={"module": PaddingMatters()},
    wrong={
        "no mask": mistake("The model is never told", mask=False),
        "not padded": mistake("compare the sentence with itself", pads=False),
        "pooled vectors": mistake("You compare the pooled vectors", which="pooled"),
        "no absolute value": mistake("absolute value", sides="one"),
        "mean": mistake("You return the mean", over="mean"),
        "sum": mistake("No sum, no square", over="sum"),
        "first token only": mistake("not at [CLS] alone", tokens="first"),
        "padded tokens too": mistake("the padded tokens themselves", tokens="all"),
        "padded to 16": mistake("must be 20 tokens long", length=16),
    },
    two_at_once=(dict(sides="one", length=16), "no absolute value"),
)

ANSWERS = (NAMES, SHARE, PADDING)
