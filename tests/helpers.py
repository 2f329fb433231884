"""What several test modules need: configurations, a vocabulary, batches, odd weights, the program itself."""

import torch
from typer.testing import CliRunner

from bert_edu import BertConfig, BertTokenizer
from bert_edu.cli import app
from bert_edu.tokenization import SPECIAL_TOKENS

# Sizes that share no factor, so that a swapped axis cannot go unnoticed; between them they have one head
# and twelve, every activation, 1, 2, 3 and 16 segment types, and inner widths that are a multiple of nothing.
ODD_CONFIGS = {
    "one head, relu, one segment": BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=37,
        hidden_act="relu",
        max_position_embeddings=19,
        type_vocab_size=1,
    ),
    "twelve heads, gelu_new, sixteen segments": BertConfig(
        vocab_size=101,
        hidden_size=36,
        num_hidden_layers=3,
        num_attention_heads=12,
        intermediate_size=41,
        hidden_act="gelu_new",
        max_position_embeddings=23,
        type_vocab_size=16,
    ),
    "five layers, gelu, large eps": BertConfig(
        vocab_size=97,
        hidden_size=40,
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=53,
        max_position_embeddings=17,
        layer_norm_eps=1e-3,
    ),
    "odd head size, three segments": BertConfig(
        vocab_size=89,
        hidden_size=34,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=31,
        max_position_embeddings=29,
        type_vocab_size=3,
    ),
}

SMALL = ODD_CONFIGS["odd head size, three segments"]


def little_tokenizer(words: list[str]) -> BertTokenizer:
    """A tokenizer that knows these words (or pieces), and the special tokens before them."""
    return BertTokenizer([*SPECIAL_TOKENS, *words])


def little_config(tokenizer: BertTokenizer, **changes) -> BertConfig:
    """A model for a tokenizer's ids that learns within a second."""
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    return BertConfig(vocab_size=len(tokenizer), **sizes | changes)


def randomise(model: torch.nn.Module, seed: int = 0, std: float = 0.2):
    """Draws every parameter anew, biases and LayerNorms too, far from any initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def batch(config: BertConfig, seed: int = 0, B: int = 13, T: int = 7) -> dict[str, torch.Tensor]:
    """A random padded batch: ids (B, T) without the [PAD] id, a mask with rows of 1 to T tokens, segments."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(B) % T + 1  # (B,)
    attention_mask = (torch.arange(T) < lengths[:, None]).long()  # (B, T)
    input_ids = torch.randint(1, config.vocab_size, (B, T), generator=generator)
    token_type_ids = torch.randint(0, config.type_vocab_size, (B, T), generator=generator)
    return dict(
        input_ids=input_ids * attention_mask, attention_mask=attention_mask, token_type_ids=token_type_ids
    )


def pretraining_labels(
    inputs: dict[str, torch.Tensor], config: BertConfig, seed: int = 1
) -> dict[str, torch.Tensor]:
    """Labels for about a third of the real tokens, and a random next-sentence label per row."""
    generator = torch.Generator().manual_seed(seed)
    B, T = inputs["input_ids"].shape
    scored = (torch.rand(B, T, generator=generator) < 0.35) & inputs["attention_mask"].bool()
    labels = torch.randint(1, config.vocab_size, (B, T), generator=generator).masked_fill(~scored, -100)
    return dict(labels=labels, next_sentence_label=torch.randint(0, 2, (B,), generator=generator))


def bert(*arguments):
    """Runs a command of the program inside this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments):
    """The result of a command that must come to its end."""
    result = bert(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refuse(*arguments) -> str:
    """The one line that a command which cannot be carried out leaves on stderr."""
    result = bert(*arguments)
    assert result.exit_code == 1, result.output
    complaints = [line for line in result.stderr.splitlines() if line.startswith("bert-edu: ")]
    assert len(complaints) == 1 and complaints[0].startswith("bert-edu: error: "), result.stderr
    assert result.stderr.splitlines()[-1] == complaints[0]
    assert "Traceback" not in result.output
    return complaints[0]
