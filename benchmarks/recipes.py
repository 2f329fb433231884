"""How the recipe of the live run was found: one question at a time, small models on pydocs.

    python benchmarks/recipes.py optimizers masking       # these studies; without names all of them

Each study writes results/STUDY.json. All train the tiny shape (2 layers, 128 wide) from random weights on the
training side of pydocs, V 4,096, inputs of at most 64 tokens, and change one or two things of the live run's
recipe (`BASE`). They are measured on the held-out side, with 15 % of the tokens behind [MASK]. All are bound
by steps, so the figures do not depend on how busy the machine is.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from bert_edu import BertConfig, BertForPreTraining, BertTokenizer
from bert_edu.data.corpus import load
from bert_edu.data.pretraining import PreTrainingBatches, TokenStore
from bert_edu.data.vocabulary import train_vocabulary
from bert_edu.embeddings import start_from_sinusoids
from bert_edu.training.loop import METRICS_FILE, OPTIMIZERS, Recipe, pretrain, train_step
from bert_edu.training.metrics import evaluate_pretraining, unigram_entropy
from bert_edu.training.preparation import held_out_batches
from bert_edu.training.reproducibility import seed_everything
from measure import write_result

VOCABULARY = 4096
LENGTH = 64  # tokens of an input
HELD_OUT_ROWS = 2000
BASE = Recipe(
    max_steps=1500,
    batch_tokens=1024,
    max_length=LENGTH,
    learning_rate=4e-3,
    optimizer="muon",
    mlm_probability=0.4,
    precision="auto",
    checkpoint_every=10**9,  # only the one at the end
)
WIDTH, SPREAD = 128, 0.05  # spread of the initial weights: BERT's 0.02 at width 768, scaled with its root


@cache
def text():
    """Tokenizer, training and held-out documents as ids, held-out batches."""
    train = load("pydocs", "train")
    tokenizer = BertTokenizer(train_vocabulary(train, VOCABULARY))
    stores = [TokenStore.build(documents, tokenizer) for documents in (train, load("pydocs", "valid"))]
    batches = held_out_batches(stores[1], tokenizer, max_length=LENGTH, rows=HELD_OUT_ROWS)
    return tokenizer, *stores, batches


@cache
def text_record():
    """What the figures rest on, for the results file."""
    tokenizer, train, valid, batches = text()
    return {
        "corpus": "pydocs",
        "fingerprint": load("pydocs", "train").fingerprint(),
        "vocab_size": len(tokenizer),
        "tokens": {"train": train.token_count, "valid": valid.token_count},
        "scored_positions": sum(int((batch.labels >= 0).sum()) for batch in batches),
        "unigram_entropy": round(unigram_entropy(train, len(tokenizer)), 4),
    }


def new_model(seed: int, width: int = WIDTH, spread: float = SPREAD, sinusoids: bool = True):
    """A tiny model with random weights."""
    seed_everything(seed)
    config = BertConfig.preset(
        "tiny",
        vocab_size=len(text()[0]),
        hidden_size=width,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=spread,
    )
    model = BertForPreTraining(config)
    if sinusoids:
        start_from_sinusoids(model.bert.embeddings, spread)
    return model


def run(recipe: Recipe, **shape) -> dict:
    """Trains one model and measures it: held-out figures, when it left the plateau, and its curve."""
    tokenizer, train, _, batches = text()
    model = new_model(recipe.seed, **shape)
    with tempfile.TemporaryDirectory() as out:
        pretrain(model, tokenizer, train, Path(out), recipe, report=lambda line: None)
        lines = [json.loads(line) for line in (Path(out) / METRICS_FILE).read_text().splitlines()]
    measured = evaluate_pretraining(model, batches, tokenizer)
    losses = [line["mlm_loss"] for line in lines]
    curve = [statistics.fmean(losses[start : start + 50]) for start in range(0, len(losses), 50)]
    figures = {
        "mask_accuracy": measured["mask_accuracy"],
        "mlm_loss": measured["mlm_loss"],
        "nsp_accuracy": measured["nsp_accuracy"],
        "million_tokens": sum(line["tokens"] for line in lines) / 1e6,
        "training_loss_every_50_steps": curve,
    }
    return {name: rounded(value) for name, value in figures.items()}


def rounded(value):
    return [round(v, 3) for v in value] if isinstance(value, list) else round(value, 4)


def over_seeds(seeds: int, recipe: Recipe, **shape) -> dict:
    """The same run with several seeds: each one's figures, mean and standard deviation of the accuracy."""
    runs = [run(replace(recipe, seed=seed), **shape) for seed in range(seeds)]
    accuracies = [figures["mask_accuracy"] for figures in runs]
    summary = {"mean": rounded(statistics.fmean(accuracies))}
    if seeds > 1:
        summary["sd"] = rounded(statistics.stdev(accuracies))
    print(json.dumps(summary), flush=True)
    return {"mask_accuracy": summary, "runs": runs}


# ---- The studies -------------------------------------------------------------------------------------------


def optimizers():
    """AdamW and Muon on the same 1.5 million tokens: the better of two learning rates with three seeds."""
    seeds = {("muon", 4e-3): 3, ("adamw", 2e-3): 3, ("muon", 2e-3): 1, ("adamw", 1e-3): 1}
    return {
        f"{name} {rate:g}": over_seeds(number, replace(BASE, optimizer=name, learning_rate=rate))
        for (name, rate), number in seeds.items()
    }


def masking():
    """How many tokens to hide in training: 15 % as BERT does, or more? Measured at 15 % all the same."""
    short = replace(BASE, max_steps=800)
    return {f"{share:g}": over_seeds(1, replace(short, mlm_probability=share)) for share in (0.15, 0.4, 0.6)}


def batch_and_learning_rate():
    """Tokens a step against the learning rate, for the same 800,000 tokens in all."""
    return {
        f"{tokens} tokens a step, {rate:g}": over_seeds(
            1, replace(BASE, batch_tokens=tokens, max_steps=800 * 1024 // tokens, learning_rate=rate)
        )
        for tokens, rate in ((512, 2e-3), (512, 4e-3), (2048, 4e-3), (2048, 8e-3))  # 1024: in `masking`
    }


def initialiser_and_width():
    """The spread of the initial weights against the width: BERT's 0.02 was chosen for width 768."""
    short = replace(BASE, max_steps=600)
    grid = {
        f"width {width}, spread {spread:g}": over_seeds(1, short, width=width, spread=spread)
        for width, spread in ((64, 0.02), (64, 0.07), (64, 0.2), (128, 0.02), (128, 0.05), (128, 0.15))
    }
    return grid | {"width 128, spread 0.05, random positions": over_seeds(1, short, sinusoids=False)}


def learning_rate_range():
    """The learning rate rises from 1e-5 to 1 in 300 steps: where does the loss fall, and where explode?"""
    tokenizer, train, _, _ = text()
    curves = {}
    for name in OPTIMIZERS:
        model = new_model(0).train()
        optimizer = OPTIMIZERS[name](model, 1e-5)
        stream = PreTrainingBatches(
            train, tokenizer, max_length=LENGTH, batch_tokens=1024, mlm_probability=BASE.mlm_probability
        )
        points = []
        for step, (_, batch) in zip(range(300), stream.read_from()):
            rate = 10 ** (-5 + 5 * step / 299)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sums = train_step(model, optimizer, [batch], mask_token_id=tokenizer.mask_token_id, clip_norm=1.0)
            points.append((float(f"{rate:.3g}"), round(float(sums["mlm_loss"]), 3)))
            if not torch.isfinite(sums["mlm_loss"]):
                break
        curves[name] = points
    return curves


STUDIES = {
    study.__name__: study
    for study in (optimizers, masking, batch_and_learning_rate, initialiser_and_width, learning_rate_range)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="all, if none is named")
    for name in parser.parse_args().studies or STUDIES:
        question = " ".join(STUDIES[name].__doc__.split())
        print(name, question, flush=True)
        figures = {"question": question, "text": text_record(), "base": vars(BASE)}
        write_result(name, figures | {"runs": STUDIES[name]()})


if __name__ == "__main__":
    main()
