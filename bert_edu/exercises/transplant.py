"""Your part in the real model: an attention, an embedding or an encoder layer of your own, at work."""

import copy
import functools
import inspect

import torch
from torch import Tensor, nn

from ..mini import load_mini
from .sandbox import Answer, Wrong

# Each with a second text, so that segments count, and of different lengths, so that padding does.
SENTENCES = (
    ("The children play in the [MASK].", "They come home when it is dark."),
    ("She opened the [MASK] and went in.", "Nobody was there."),
    ("Return a new [MASK] with the same shape as the input.", "It is filled with zeros."),
    ("If the file does not [MASK], an error is raised.", "It must be opened first."),
    ("The first argument must be a [MASK].", "The default is None."),
    ("It was late, and the last [MASK] had left the station an hour ago.", "So they walked."),
    ("The answer is no.", "He was very [MASK] about it."),
    ("The value of the parameter.", "It must be greater [MASK] zero, or an error is raised."),
)

# The model's own parts, which a learner's part is not.
OWN = {
    "attention": "bert_edu.attention.MultiHeadSelfAttention.forward",
    "embeddings": "bert_edu.embeddings.BertEmbeddings.forward",
    "encoder layer": "bert_edu.encoder.EncoderLayer.forward",
}
SAME = 1e-3  # vectors that differ by less are the same but for rounding; a component is about 1 in size

the_model = functools.cache(load_mini)


def your_part(part, name: str) -> float:
    """Puts a part of your own into the shipped model, with the model's weights, and lets it fill gaps.

    Prints which words the model finds with its own part and with yours, and where the vectors first differ.

    Args:
        part: what makes your module from a `BertConfig`: its class, or a function of the configuration. Its
            parameters have the names of chapters 3, 5 and 6. Called as in the chapters: attention and
            encoder layer with (hidden, bias=bias), embeddings with (input_ids, token_type_ids=types).
            For attention also a function (hidden, state, num_heads, bias), such as exercise 5.1 asks for.
        name: "attention" or "encoder layer", which go into every layer, or "embeddings".

    Returns:
        the share of gaps that get the same word, 0 to 1.

    Raises:
        ValueError: for another name.
    """
    if name not in OWN:
        raise ValueError(f"name must be one of {', '.join(map(repr, OWN))}, not {name!r}")
    model, tokenizer = the_model()  # loaded before the child is forked, which then has it too
    ids, types, mask = batch(tokenizer)
    expected = fill(model, ids, types, mask)
    with Answer(lambda: part, finished=[OWN[name]], seconds=10.0) as answer:
        try:
            found = answer.via(fill_with, name, ids, types, mask)
        except Wrong as wrong:
            print(wrong)
            return 0.0
        if answer.used:
            print(f"This is the model's own part: your {name} calls {OWN[name]}.")
            return 0.0
    return compare(name, tokenizer, expected, found)


def batch(tokenizer) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, segments and mask of the sentences, (B, T) each."""
    made = tokenizer.batch(*zip(*SENTENCES))
    return made.input_ids, made.token_type_ids, made.attention_mask


def fill(model, ids: Tensor, types: Tensor, mask: Tensor) -> dict:
    """What the model makes of the sentences: its vectors after each layer, its probabilities at the gaps."""
    _, tokenizer = the_model()
    with torch.no_grad():
        output = model.bert(ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
        logits = model.mlm_head(
            output.last_hidden_state[ids == tokenizer.mask_token_id], model.bert.embeddings.token.weight
        )  # (B, V): one gap a sentence
    real = mask.bool()
    return {
        "states": [state[real] for state in output.hidden_states],
        "probabilities": logits.softmax(dim=-1),
    }


def fill_with(part, name: str, ids: Tensor, types: Tensor, mask: Tensor) -> dict:
    """A driver: the same with a part of the learner's."""
    model = copy.deepcopy(the_model()[0])
    if name == "embeddings":
        model.bert.embeddings = fitted(part, model.config, model.bert.embeddings)
    for number, layer in enumerate(model.bert.encoder.layers):
        if name == "attention":
            layer.attention = Alone(fitted(part, model.config, layer.attention))
        elif name == "encoder layer":
            model.bert.encoder.layers[number] = Alone(fitted(part, model.config, layer))
    return fill(model.eval(), ids, types, mask)


class Alone(nn.Module):
    """Calls a module as the chapters do, and returns what the package expects: a result, no probabilities."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, hidden, *, bias=None, output_attentions=False):
        result = self.module(hidden, bias=bias)
        return (result[0] if isinstance(result, tuple) else result), None


class FromFunction(nn.Module):
    """An attention that is a function of the weights."""

    def __init__(self, function, own: nn.Module):
        super().__init__()
        self.function, self.own = function, own

    def forward(self, hidden, bias=None):
        return self.function(hidden, self.own.state_dict(), self.own.num_heads, bias)


def fitted(part, config, own: nn.Module) -> nn.Module:
    """The learner's module with the weights of the model's own."""
    if not isinstance(part, type) and "state" in inspect.signature(part).parameters:
        return FromFunction(part, own)
    module = part(config)
    if not isinstance(module, nn.Module):
        raise Wrong(
            f"Your part must make an nn.Module from a configuration; it makes a {type(module).__name__}."
        )
    weights = known_weights(own.state_dict(), config.num_attention_heads)
    wanted = module.state_dict()
    unknown = [name for name in wanted if name not in weights]
    if unknown:
        raise Wrong(
            f"Your module has {', '.join(unknown[:4])}, and the model has no weights of that name. It has "
            f"{', '.join(own.state_dict())}."
        )
    for name, weight in wanted.items():
        if weight.shape != weights[name].shape:
            raise Wrong(
                f"{name} must have the shape {tuple(weights[name].shape)} in this model, and yours has "
                f"{tuple(weight.shape)}: take the sizes from the configuration."
            )
    module.load_state_dict({name: weights[name] for name in wanted})
    return module.eval()


def known_weights(state: dict[str, Tensor], num_heads: int) -> dict[str, Tensor]:
    """A part's weights under the names of all forms that chapter 5 gives to attention."""
    weights = dict(state)
    for name, tensor in state.items():
        if "query_key_value." in name:
            before, kind = name.split("query_key_value.")
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3)):
                weights[f"{before}{part}.{kind}"] = rows
                for head, some in enumerate(rows.chunk(num_heads)):
                    weights[f"{before}heads.{head}.{part}.{kind}"] = some
    return weights


def compare(name: str, tokenizer, expected: dict, found: dict) -> float:
    """Prints what became of the gaps; the share that got the same word."""
    words, yours = (
        [tokenizer.id_to_token(number) for number in made["probabilities"].argmax(dim=-1).tolist()]
        for made in (expected, found)
    )
    print(f"Your {name} in the shipped model:")
    for texts, word, mine in zip(SENTENCES, words, yours):
        text = next(text for text in texts if "[MASK]" in text)
        print(f"  {'same ' if word == mine else 'OTHER'}  {text.replace('[MASK]', f'[{mine}]')}"
              + ("" if word == mine else f"  The model says {word}."))  # fmt: skip
    same = sum(word == mine for word, mine in zip(words, yours))
    change = (expected["probabilities"] - found["probabilities"]).abs().max().item()
    print(f"{same} of {len(words)} gaps get the same word; a probability changes by up to {change:.4f}.")
    for number, (one, other) in enumerate(zip(expected["states"], found["states"])):
        gap = (one - other).abs().max().item()
        if not gap < SAME:  # also NaN
            where = f"after layer {number}" if number else "after the embeddings"
            print(f"The vectors first differ {where}, by up to {gap:.3f}.")
            if same == len(words):
                print("Words can stay the same by luck: compare numbers.")
            break
    else:
        print("The vectors are the model's own after every layer.")
    return same / len(words)
