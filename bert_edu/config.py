"""The sizes and rates that define one BERT: the numbers of its `config.json`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

# Published sizes: (layers L, hidden H, heads A). The feed-forward width is always 4 H.
# "base" and "large" are from Devlin et al. (2018), the smaller ones from Turc et al. (2019).
PRESETS = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}

ACTIVATION_NAMES = ("gelu", "gelu_new", "relu")

# Settings of `config.json` that would make the model something other than the BERT of this book,
# with the only value under which our forward pass is the right one.
ASSUMED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


@dataclass
class BertConfig:
    """The configuration of a BERT model; the field names are those of published `config.json` files.

    Args:
        vocab_size: number of tokens in the vocabulary, V.
        hidden_size: width of every token's vector, H.
        num_hidden_layers: number of encoder layers, L.
        num_attention_heads: number of attention heads, A; each is D = H / A wide.
        intermediate_size: inner width of the feed-forward network, I.
        hidden_act: activation inside the feed-forward network: "gelu" (exact, as in the paper's first
            release), "gelu_new" (its tanh approximation) or "relu".
        hidden_dropout_prob: probability of zeroing a component of a hidden vector while training.
        attention_probs_dropout_prob: probability of zeroing an attention probability while training.
        max_position_embeddings: the longest sequence, in tokens.
        type_vocab_size: number of segment types (2: first and second sentence).
        initializer_range: standard deviation of the initial weights, before the cut at two of it.
        layer_norm_eps: the small number inside LayerNorm's root.
        pad_token_id: id of [PAD]; kept because published files have it. The attention mask, not this id,
            decides what is padding.

    Raises:
        ValueError: when a value, or a combination of values, makes no model; the message names the field.

    The defaults are BERT-base's.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self):
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads}): every head gets an equal share of the vector"
            )
        if self.hidden_act not in ACTIVATION_NAMES:
            raise ValueError(
                f"hidden_act must be one of {', '.join(ACTIVATION_NAMES)}, not {self.hidden_act!r}"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if not _is_number(value) or not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not _is_number(value) or not 0.0 < value < float("inf"):
                raise ValueError(f"{name} must be a number above 0, not {value!r}")
        if self.pad_token_id not in range(self.vocab_size):
            raise ValueError(
                f"pad_token_id must be an id of the vocabulary, 0 to {self.vocab_size - 1}, "
                f"not {self.pad_token_id!r}"
            )

    @property
    def head_size(self) -> int:
        """The width of one attention head, D = H / A."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def preset(cls, name: str, **changes) -> "BertConfig":
        """A published size by name ("tiny" ... "large"); `changes` replace single fields.

        >>> BertConfig.preset("mini", vocab_size=8192).hidden_size
        256
        """
        if name not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
        layers, hidden, heads = PRESETS[name]
        shape = dict(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
        )
        return cls(**(shape | changes))

    def to_dict(self) -> dict:
        """All fields by name, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, published: dict) -> "BertConfig":
        """Reads the fields of a published `config.json`; the ones this book does not use are left out.

        Raises:
            ValueError: when the file describes another architecture (a decoder, relative positions,
                another model type), because our forward pass would give wrong numbers for it.
        """
        for name, expected in ASSUMED.items():
            found = published.get(name)
            if found is not None and found != expected:
                raise ValueError(
                    f"config.json has {name} = {found!r}, and this model only knows {expected!r}"
                )
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: published[name] for name in names if name in published})

    @classmethod
    def from_json(cls, path: str | Path) -> "BertConfig":
        """Reads a `config.json` file."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
