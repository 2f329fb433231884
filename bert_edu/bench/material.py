"""What all measurements share: settings, real text, two models with the same weights."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from ..config import PRESETS, BertConfig
from ..data.corpus import load
from ..data.pretraining import Pair, sentence_pairs
from ..mini import FOLDER
from ..tokenization import BertTokenizer

OURS, THEIRS = "ours", "transformers"


@dataclass
class Settings:
    """What is measured.

    Attributes:
        corpus: where the texts come from, as `bert_edu.data.corpus.load` takes it; held-out text of pydocs.
        preset, vocab_size, dropout: the model. Its ids are those of the shipped vocabulary; a larger table
            has rows that no text uses, and costs what it costs.
        max_length: the most tokens of a text.
        batch_tokens: tokens in a batch, with padding to `max_length`.
        texts: how many a round takes.
        rounds: measured runs of each contestant.
        target_loss: the held-out loss that training is timed up to, in nats for each hidden word.
        precision: "float32", "bf16" or "fp16".
    """

    corpus: str = "pydocs"
    preset: str = "mini"
    vocab_size: int = 30522
    dropout: float = 0.1
    max_length: int = 128
    batch_tokens: int = 4096
    texts: int = 256
    rounds: int = 5
    target_loss: float = 6.5
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {self.preset!r}")
        smallest = len(tokenizer())
        if self.vocab_size < smallest:
            raise ValueError(
                f"vocab_size must be at least {smallest:,}, the shipped vocabulary, not {self.vocab_size:,}"
            )
        for name in ("texts", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_tokens < self.max_length:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) must hold at least one text of max_length "
                f"({self.max_length})"
            )

    @property
    def config(self) -> BertConfig:
        return BertConfig.preset(
            self.preset,
            vocab_size=self.vocab_size,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
        )

    @property
    def rows(self) -> int:
        """Of a batch whose rows are padded to `max_length`."""
        return self.batch_tokens // self.max_length


def tokenizer() -> BertTokenizer:
    """The shipped one."""
    return BertTokenizer.from_pretrained(FOLDER)


def real_pairs(settings: Settings, texts: int | None = None, split: str = "valid") -> list[Pair]:
    """Sentence pairs of the text, always the same ones.

    Args:
        texts: how many; None takes as many as a round has.
        split: the part of pydocs, "train" or "valid"; any other text is taken as a whole.
    """
    texts = settings.texts if texts is None else texts
    documents = load(settings.corpus, split if settings.corpus == "pydocs" else "all")
    pairs = sentence_pairs(
        list(documents),
        tokenizer(),
        max_length=settings.max_length,
        generator=torch.Generator().manual_seed(0),
    )
    found = list(islice(pairs, texts))
    if len(found) < texts:
        raise ValueError(
            f"{settings.corpus} gives {len(found)} sentence pairs, and {texts} texts were asked for"
        )
    return found


@contextmanager
def stored(model: nn.Module) -> Iterator[str]:
    """A folder that holds the model, in the published format."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        yield folder


def theirs_like(model: nn.Module, class_name: str) -> nn.Module:
    """`transformers`' model with the same weights, in training mode; fused attention is its default."""
    import transformers

    transformers.logging.disable_progress_bar()
    with stored(model) as folder:
        theirs = getattr(transformers, class_name).from_pretrained(folder, attn_implementation="sdpa")
    return theirs.train()


def check_same_loss(ours: torch.Tensor, theirs: torch.Tensor):
    """Both compute the same before the first step, or the comparison would be none."""
    if abs(float(ours) - float(theirs)) > 1e-3:
        raise RuntimeError(
            f"ours gives the loss {float(ours):.4f} and transformers {float(theirs):.4f} with the same "
            f"weights and texts: they do not compute the same, so there is nothing to compare"
        )
