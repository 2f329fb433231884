"""What a run was started with, kept in its folder, so that nothing else goes on from its checkpoints."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..heads import BertForPreTraining
from ..pretrained import read_json, replacing
from ..tokenization import BertTokenizer

RECIPE_FILE = "recipe.json"
# What may change when a run resumes; everything else must stay what it was.
MAY_CHANGE = {
    "max_steps",
    "max_seconds",
    "precision",
    "device",
    "checkpoint_every",
    "evaluate_every",
    "workers",
    "checkpointing",
    "shard_model",
}


def settings_of(recipe, model: BertForPreTraining, tokenizer: BertTokenizer, store: Sequence) -> dict:
    """All that makes two runs the same run: the recipe, the model's shape, the vocabulary and the text.

    The vocabulary is told by its hash, and the text, which may be long, by its number of documents.
    """
    vocabulary = hashlib.sha256("\n".join(tokenizer.vocab).encode()).hexdigest()[:16]
    text = {"vocabulary": vocabulary, "documents": len(store)}
    return asdict(recipe) | model.config.to_dict() | text


def keep_settings(run: Path, chosen: dict):
    """Keeps the settings in the run's folder."""
    with replacing(run / RECIPE_FILE) as temporary:
        temporary.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")


def refuse_another_run(run: Path, chosen: dict):
    """Raises ValueError when the run in a folder was started with something else, and says with what.

    Settings that are newer than the run are not compared.
    """
    if not (run / RECIPE_FILE).is_file():
        return
    before, now = read_json(run / RECIPE_FILE), json.loads(json.dumps(chosen))
    for name in sorted(before.keys() & now.keys() - MAY_CHANGE):
        if before[name] != now[name]:
            raise ValueError(
                f"the run in {run} was started with {name} {before[name]!r}, and with {now[name]!r} it would "
                f"be another run: take what it was started with, or begin anew in another folder"
            )
