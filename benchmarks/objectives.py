"""What the second objective is good for, at small scale: MLM alone, with next sentence, with sentence order.

    python benchmarks/objectives.py --keep runs.jsonl

Trains the tiny shape on pydocs three times with each objective, for the same steps, and writes
results/objectives.json. Each model is measured on hidden words, on telling pairs apart (balanced, so guessing
gives 0.5), and on two small tasks that it is fine-tuned for.

Sentence order needs two sentences that follow each other, so documents of a single one are left out there:
that model reads fewer documents more often, and its figures compare with the others' only in part.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from recipes import BASE, new_model, rounded, text, text_record
from torch.nn.utils import clip_grad_norm_

from bert_edu import BertForSequenceClassification
from bert_edu.data.corpus import pydocs_documents
from bert_edu.data.pretraining import (
    Pair,
    PreTrainingBatch,
    collate,
    grouped_by_length,
    mask_tokens,
    sentence_pairs,
)
from bert_edu.training.loop import OPTIMIZERS, autocast_for, choose_device, choose_precision
from bert_edu.training.metrics import evaluate_pretraining
from bert_edu.training.optim import adamw, linear_warmup_decay
from bert_edu.training.reproducibility import seed_everything
from measure import write_result

LENGTH, STEPS, RATE = BASE.max_length, 1200, BASE.learning_rate
OBJECTIVES = ("mlm", "mlm + next sentence", "mlm + sentence order")
TASK_EXAMPLES, TASK_EPOCHS, TASK_RATE = 2400, 2, 5e-4


# ---- Pairs -------------------------------------------------------------------------------------------------


def ordered_pairs(documents, tokenizer, generator) -> Iterator[Pair]:
    """Two stretches that follow each other; half of the time swapped (label 1), as in ALBERT."""
    real = sentence_pairs(
        documents, tokenizer, max_length=LENGTH, generator=generator, random_probability=0.0
    )
    for pair in real:
        if pair.next_sentence_label == 1:  # a lone sentence, which only a random one can follow
            continue
        if torch.rand((), generator=generator) < 0.5:
            pair = Pair(pair.second, pair.first, 1)
        yield pair


def pairs_within_documents(documents, tokenizer, generator) -> Iterator[Pair]:
    """Next or random sentences, the random ones from the same document: the topic gives nothing away."""
    for number in range(len(documents)):
        yield from sentence_pairs([documents[number]], tokenizer, max_length=LENGTH, generator=generator)


def pairs_of(objective: str, documents, tokenizer, generator) -> list[Pair]:
    if objective == "mlm + sentence order":
        return list(ordered_pairs(documents, tokenizer, generator))
    return list(sentence_pairs(documents, tokenizer, max_length=LENGTH, generator=generator))


def batches_of(pairs: list[Pair], tokenizer, generator, **masking) -> Iterator[PreTrainingBatch]:
    for group in grouped_by_length(pairs, BASE.batch_tokens, generator):
        batch = collate(group, tokenizer)
        ids, labels = mask_tokens(batch.input_ids, tokenizer, generator=generator, **masking)
        yield replace(batch, input_ids=ids, labels=labels)


# ---- Pre-training ------------------------------------------------------------------------------------------


def pretrained(objective: str, seed: int):
    """A tiny model after STEPS steps."""
    tokenizer, train, _, _ = text()
    model = new_model(seed).train()
    optimizer = OPTIMIZERS["muon"](model, RATE)
    generator = torch.Generator().manual_seed(seed)
    cpu = choose_device("cpu")
    autocast = autocast_for(choose_precision("auto", cpu), cpu)
    step = 0
    while step < STEPS:
        pairs = pairs_of(objective, train, tokenizer, generator)
        for batch in batches_of(pairs, tokenizer, generator, mlm_probability=BASE.mlm_probability):
            rate = RATE * linear_warmup_decay(step + 1, int(0.06 * STEPS), STEPS + 1)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast():
                output = model(
                    batch.input_ids,
                    attention_mask=batch.attention_mask,
                    token_type_ids=batch.token_type_ids,
                    labels=batch.labels,
                    next_sentence_label=None if objective == "mlm" else batch.next_sentence_label,
                )
            output.loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            with autocast():
                optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == STEPS:
                break
    return model.eval()


def measure_pretraining(objective: str, model) -> dict:
    """Accuracy on hidden words, and balanced accuracy on two or three kinds of pairs."""
    tokenizer, _, valid, _ = text()
    kinds = {
        "random sentence from another document": pairs_of("mlm", valid, tokenizer, generator(0)),
        "random sentence from the same document": list(
            pairs_within_documents(valid, tokenizer, generator(0))
        ),
        "swapped": list(ordered_pairs(valid, tokenizer, generator(0))),
    }
    asked = {
        "mlm": [],
        "mlm + next sentence": list(kinds)[:2],
        "mlm + sentence order": list(kinds)[2:],
    }[objective]
    figures = {}
    for kind, pairs in kinds.items():
        batches = list(batches_of(pairs, tokenizer, generator(1), share_masked=1.0, share_random=0.0))
        measured = evaluate_pretraining(model, batches, tokenizer)
        if kind == "random sentence from another document":
            figures["mask_accuracy"] = measured["mask_accuracy"]
            figures["mlm_loss"] = measured["mlm_loss"]
        if kind in asked:
            figures[f"pairs: {kind}"] = measured["nsp_balanced_accuracy"]
    return figures


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- Two small tasks, from the documentation itself --------------------------------------------------------


def summaries_and_bodies(split: str) -> list[tuple[str, str, str, str]]:
    """(library, module, first sentence, the next two) of every docstring that is long enough."""
    return [
        (
            document.source.library,
            document.source.module,
            document.sentences[0],
            " ".join(document.sentences[1:3]),
        )
        for document in pydocs_documents(split)
        if len(document.sentences) >= 3
    ]


def which_library(split: str) -> tuple[list[tuple[str, None]], list[int], int]:
    """One sentence -> the library whose documentation it comes from: texts, labels, number of classes."""
    rows = summaries_and_bodies(split)
    libraries = sorted({library for library, *_ in rows})
    return (
        [(body, None) for *_, body in rows],
        [libraries.index(library) for library, *_ in rows],
        len(libraries),
    )


def own_body(split: str) -> tuple[list[tuple[str, str]], list[int], int]:
    """Summary and body -> do they belong together (1)? The wrong bodies come from the same module."""
    rows = summaries_and_bodies(split)
    by_module = {}
    for _, module, _, body in rows:
        by_module.setdefault(module, []).append(body)
    draw, texts, labels = generator(7), [], []
    for _, module, summary, body in rows:
        others = [other for other in by_module[module] if other != body]
        if others and torch.rand((), generator=draw) < 0.5:
            texts.append((summary, others[int(torch.randint(len(others), (), generator=draw))]))
            labels.append(0)
        else:
            texts.append((summary, body))
            labels.append(1)
    return texts, labels, 2


def fine_tuned_accuracy(pretrained_model, task, seed: int) -> dict:
    """Accuracy on the held-out side after fine-tuning, beside that of the most frequent class."""
    tokenizer, _, _, _ = text()
    (texts, labels, classes), (test_texts, test_labels, _) = task("train"), task("valid")
    seed_everything(seed)
    model = BertForSequenceClassification(pretrained_model.config, classes)
    model.bert.load_state_dict(copy.deepcopy(pretrained_model.bert.state_dict()))
    model.train()
    steps = TASK_EPOCHS * (TASK_EXAMPLES // 32)
    optimizer, draw = adamw(model, TASK_RATE), generator(seed)
    chosen = torch.randperm(len(texts), generator=draw)[:TASK_EXAMPLES]
    for step in range(steps):
        if step % (TASK_EXAMPLES // 32) == 0:
            order = chosen[torch.randperm(TASK_EXAMPLES, generator=draw)]
        numbers = order[step % (TASK_EXAMPLES // 32) * 32 :][:32].tolist()
        for group in optimizer.param_groups:
            group["lr"] = TASK_RATE * linear_warmup_decay(step + 1, steps // 10, steps + 1)
        loss = logits_of(model, tokenizer, [texts[n] for n in numbers], [labels[n] for n in numbers]).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(test_texts), 64):
            part = slice(start, start + 64)
            said = logits_of(model, tokenizer, test_texts[part]).logits.argmax(-1).tolist()
            right += sum(answer == label for answer, label in zip(said, test_labels[part]))
    most_frequent = max(set(test_labels), key=test_labels.count)
    return {
        "accuracy": right / len(test_texts),
        "most frequent class": test_labels.count(most_frequent) / len(test_labels),
        "test examples": len(test_texts),
    }


def logits_of(model, tokenizer, texts: list[tuple[str, str | None]], labels: list[int] | None = None):
    """The model's output for a batch of texts or pairs."""
    pairs = None if texts[0][1] is None else [second for _, second in texts]
    batch = tokenizer.batch([first for first, _ in texts], pairs, max_length=LENGTH)
    return model(
        batch.input_ids,
        attention_mask=batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        labels=None if labels is None else torch.tensor(labels),
    )


TASKS = {"which library (one text)": which_library, "own body (pair)": own_body}


def one_run(objective: str, seed: int) -> dict:
    """Pre-trains one model and measures it in every way."""
    model = pretrained(objective, seed)
    figures = measure_pretraining(objective, model)
    for name, task in TASKS.items():
        figures |= {f"{name}: {part}": v for part, v in fine_tuned_accuracy(model, task, seed).items()}
    return {name: rounded(value) for name, value in figures.items()}


def summary(runs: list[dict]) -> dict:
    """Mean and standard deviation of every figure over the seeds."""
    return {
        name: {
            "mean": rounded(statistics.fmean(run[name] for run in runs)),
            "sd": rounded(statistics.stdev(run[name] for run in runs)) if len(runs) > 1 else None,
        }
        for name in runs[0]
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--keep", type=Path, required=True, help="finished runs; what it holds is not run again"
    )
    arguments = parser.parse_args()
    kept = arguments.keep.read_text().splitlines() if arguments.keep.exists() else []
    done = {(line["objective"], line["seed"]): line["figures"] for line in map(json.loads, kept)}
    for seed in arguments.seeds:
        for objective in OBJECTIVES:
            if (objective, seed) not in done:
                figures = done[objective, seed] = one_run(objective, seed)
                line = json.dumps({"objective": objective, "seed": seed, "figures": figures})
                print(line, flush=True)
                with arguments.keep.open("a") as file:
                    file.write(line + "\n")
    runs = {objective: [done[objective, seed] for seed in arguments.seeds] for objective in OBJECTIVES}
    settings = {
        "steps": STEPS,
        "batch_tokens": BASE.batch_tokens,
        "max_length": LENGTH,
        "learning_rate": RATE,
    }
    settings |= {"seeds": arguments.seeds, "fine-tuning examples": TASK_EXAMPLES}
    summaries = {objective: summary(found) for objective, found in runs.items()}
    write_result(
        "objectives", {"text": text_record(), "settings": settings, "summary": summaries, "runs": runs}
    )


if __name__ == "__main__":
    main()
