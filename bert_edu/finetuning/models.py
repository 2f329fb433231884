"""Models and tokenizers from folders: a pre-trained encoder under a fresh head, a fine-tuned model as it was.

A folder of a fine-tuned model holds one more file than that of any other model: what the task must remember.
"""

import json
import warnings
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..heads import PretrainedMixin
from ..model import BertModel
from ..pretrained import CONFIG_FILE, WEIGHTS_FILE, read_json, replacing, resolve_folder
from ..tokenization import BACKEND_FILE, SETTINGS_FILE, VOCABULARY_FILE, BertTokenizer

TASK_FILE = "finetuning.json"  # what a task remembers beside the model's config.json


def with_fresh_head(
    model_class: type, folder: str | Path, tokenizer: BertTokenizer, max_length: int, **arguments
) -> nn.Module:
    """A model whose encoder comes from a folder and whose head starts from initial weights.

    The folder may hold an encoder alone, or one below any heads; a head that is there is not used. That is
    what fine-tuning means, so nobody is warned of it. An encoder that lacks the pooler which the model needs
    gets a fresh one, with a warning.

    Args:
        model_class: one of the models of `bert_edu.heads`, with the encoder as its part `bert`.
        folder: a local folder, or a name on the model hub.
        tokenizer, max_length: what its inputs will be made with, to see whether they fit.
        arguments: passed on to `model_class`.

    Raises:
        FileNotFoundError: when there is no such folder, or no model in it.
        ValueError: when the weights, the vocabulary or the length do not fit.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = BertModel.from_pretrained(folder)
    check_fit(folder, encoder, tokenizer, max_length)
    model = model_class(encoder.config, **arguments)
    if model.bert.pooler is None:
        encoder.pooler = None
    elif encoder.load_report.missing:
        warnings.warn(
            f"{folder} has no pooler: it starts from initial values, and in a frozen encoder it keeps them",
            stacklevel=2,
        )
    model.bert = encoder
    return model


def check_fit(folder: str | Path, model: nn.Module, tokenizer: BertTokenizer, max_length: int):
    """Raises ValueError when a model cannot read what a tokenizer makes."""
    config = model.config
    if len(tokenizer) != config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens and the model in {folder} a vocabulary of "
            f"{config.vocab_size}: one of them is from somewhere else"
        )
    if max_length > config.max_position_embeddings:
        raise ValueError(
            f"max_length is {max_length}, but the model in {folder} has "
            f"{config.max_position_embeddings} positions"
        )


def fine_tuned(model_class: type[PretrainedMixin], folder: str | Path) -> nn.Module:
    """A model that was fine-tuned for a task, with its head.

    Raises:
        FileNotFoundError: when there is no such folder, or no model in it.
        ValueError: when the model there was made for another task, or for none.
    """
    wanted = model_class.__name__
    config = read_json(_file(folder, CONFIG_FILE))
    found = config.get("architectures") or [wanted]  # older files do not say
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing is looked at here
        model = model_class.from_pretrained(folder) if wanted in found else None
    if model is None or model.load_report.missing:
        made = "has no such head" if wanted in found else f"is a {found[0]}"
        raise ValueError(
            f"a {wanted} is needed, and the model in {folder} {made}: make one with bert-edu finetune"
        )
    return model


def tokenizer_of(folder: str | Path) -> BertTokenizer:
    """The tokenizer beside a model.

    Raises:
        FileNotFoundError: when there is no such folder, or no tokenizer in it.
    """
    place = resolve_folder(folder, [VOCABULARY_FILE, BACKEND_FILE, SETTINGS_FILE])
    if not any((place / file).is_file() for file in (VOCABULARY_FILE, BACKEND_FILE)):
        raise FileNotFoundError(
            f"{folder} has no tokenizer ({VOCABULARY_FILE} or {BACKEND_FILE}): put the one beside the model "
            f"that it was pre-trained with"
        )
    return BertTokenizer.from_pretrained(folder)


def remember(folder: str | Path, facts: dict):
    """Writes what a task must know again when it is loaded."""
    with replacing(Path(folder) / TASK_FILE) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def remembered(folder: str | Path) -> dict:
    """What `remember` wrote; nothing for a model that others made."""
    file = resolve_folder(folder, [TASK_FILE]) / TASK_FILE
    return read_json(file) if file.is_file() else {}


def _file(folder: str | Path, name: str) -> Path:
    file = resolve_folder(folder, [CONFIG_FILE, WEIGHTS_FILE]) / name
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {name}: it holds no model")
    return file


def set_dropout(model: nn.Module, rate: float):
    """Sets the probability of dropout in every place of a model, and in its configuration."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = rate
        if hasattr(part, "config"):
            part.config = replace(part.config, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
