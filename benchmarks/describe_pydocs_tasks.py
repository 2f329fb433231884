"""Describes the four tasks made from pydocs, measures their baselines, and writes their data cards.

    python benchmarks/describe_pydocs_tasks.py

Writes results/pydocs_tasks.json and, from its figures, bert_edu/data/pydocs_tasks.md. The examples, and so
the figures, belong to the versions of the libraries that are installed.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import bert_edu.data.pydocs_tasks as tasks
from bert_edu.data.pydocs import FUNCTION_WORDS, _installed, pydocs_documents, stretches
from bert_edu.data.pydocs_tasks import PYDOCS_TASKS, SIDES, fingerprint, pydocs_task
from bert_edu.data.tasks import QuestionExample, TaggedSentence, TextExample
from bert_edu.finetuning.baselines import bag_of_words, baselines
from bert_edu.finetuning.metrics import accuracy
from measure import write_result

CARD = Path(tasks.__file__).with_suffix(".md")
TEMPLATE = Path(__file__).parent / "pydocs_tasks_card.md"
SHOWN = 6  # examples of each task
HELD_OUT = ("dev", "test")
SHORT = 50  # words: of a longer one the card would show too much


# ---- 1. What every task has --------------------------------------------------------------------------------


def description(name: str) -> dict:
    """Sizes, balance, lengths and leaks of one task."""
    sides = {side: pydocs_task(name, side) for side in SIDES}
    words = [len(" ".join(texts(example)).split()) for example in sides["train"]]
    return {
        "fingerprint": fingerprint(name),
        "examples": {side: len(examples) for side, examples in sides.items()},
        "labels": {side: dict(sorted(labels(examples).items())) for side, examples in sides.items()},
        "words of an example": {"mean": round(statistics.mean(words), 1), "longest": max(words)},
        "leaks": leaks(sides),
        "shown": [as_text(example) for example in sides["dev"] if is_worth_showing(example)][:SHOWN],
    }


def texts(example) -> list[str]:
    if isinstance(example, TaggedSentence):
        return [" ".join(example.words)]
    if isinstance(example, QuestionExample):
        return [example.context]
    return [text for text in (example.first, example.second) if text is not None]


def labels(examples: list) -> Counter:
    if isinstance(examples[0], TaggedSentence):
        return Counter(tag for example in examples for tag in example.tags)
    if isinstance(examples[0], QuestionExample):
        return Counter("with answer" if example.answers else "without answer" for example in examples)
    return Counter(example.label for example in examples)


def leaks(sides: dict[str, list]) -> dict:
    """Held-out examples of which something stands on another side, or in what the model was pre-trained on.

    "one word apart" are not left out of a task: "Return the width." beside "Return the height."
    """
    seen = {}
    for side in SIDES:
        whole = {" ".join(texts(example)).lower() for example in sides[side]}
        runs = set().union(*(stretches(texts(example)) for example in sides[side]))
        near = set().union(*(with_gaps(text) for example in sides[side] for text in texts(example)[:1]))
        seen[side] = whole, runs, near
    pretraining = set()
    for document in pydocs_documents("train"):
        pretraining |= stretches(document.sentences)
    counts = Counter({"equal texts": 0, "eight words in common": 0, "one word apart": 0, "pre-training": 0})
    for side in HELD_OUT:
        others = [other for other in SIDES if other != side]
        for example in sides[side]:
            text = texts(example)
            counts["equal texts"] += any(" ".join(text).lower() in seen[other][0] for other in others)
            counts["eight words in common"] += any(stretches(text) & seen[other][1] for other in others)
            counts["one word apart"] += bool(with_gaps(text[0]) & seen["train"][2])
            counts["pre-training"] += bool(stretches(text) & pretraining)
    return dict(counts)


def with_gaps(text: str) -> set[str]:
    """The text with each of its words left out in turn: what it shares with texts that differ in one word."""
    words = text.lower().split()
    return {" ".join([*words[:i], "_", *words[i + 1 :]]) for i in range(len(words))}


def is_worth_showing(example) -> bool:
    tags = example.tags if isinstance(example, TaggedSentence) else ["any"]
    return len(" ".join(texts(example)).split()) <= SHORT and set(tags) != {"O"}


def as_text(example) -> str:
    """One line of the card, in Markdown."""
    if isinstance(example, TextExample):
        return f"*{example.label}*: " + " ‖ ".join(escaped(text) for text in texts(example))
    if isinstance(example, TaggedSentence):
        pairs = zip(map(escaped, example.words), example.tags)
        return " ".join(word if tag == "O" else f"**{word}**/{tag[2:]}" for word, tag in pairs)
    answer = f"**{escaped(example.answers[0].text)}**" if example.answers else "*no answer*"
    return f"{escaped(example.context)} *{escaped(example.question)}* {answer}"


def escaped(text: str) -> str:
    return re.sub(r"([*_`<\[\]])", r"\\\1", text)


def measured(name: str) -> dict:
    """Scores of the baselines on both held-out sides."""
    train = pydocs_task(name, "train")
    return {
        side: {
            found.name: {metric: round(score, 4) for metric, score in found.scores.items()}
            for found in baselines(train, pydocs_task(name, side))
        }
        for side in HELD_OUT
    }


# ---- 2. What only one task has -----------------------------------------------------------------------------


def overlap() -> dict:
    """Pair: how far words in common alone get, that are no function words."""
    shares = {side: [shared_words(example) for example in pydocs_task("pair", side)] for side in SIDES}
    gold = {side: [example.label == "same" for example in pydocs_task("pair", side)] for side in SIDES}
    candidates = sorted(set(shares["train"]))
    best = max(candidates, key=lambda bound: accuracy(gold["train"], above(shares["train"], bound)))
    by_label = {True: [], False: []}
    for share, same in zip(shares["train"], gold["train"]):
        by_label[same].append(share)
    return {
        "mean share when same": round(statistics.mean(by_label[True]), 3),
        "mean share when other": round(statistics.mean(by_label[False]), 3),
        **{side: round(accuracy(gold[side], above(shares[side], best)), 4) for side in HELD_OUT},
    }


def above(shares: list[float], bound: float) -> list[bool]:
    return [share >= bound for share in shares]


def shared_words(example: TextExample) -> float:
    """The share of a summary's words that its body has too."""
    summary, body = (set(re.findall(r"\w+", text.lower())) - FUNCTION_WORDS for text in example[:2])
    return len(summary & body) / max(1, len(summary))


def spelling() -> dict:
    """Tagging: how many parameters look like ordinary words, and how many training has shown as such."""
    seen = {tag: set() for tag in ("B-PARAM", "O")}
    for example in pydocs_task("tagging", "train"):
        for word, tag in zip(*example):
            seen.get(tag, set()).add(word.lower())
    held_out = {"B-PARAM": [], "B-EXC": [], "O": []}
    for example in [*pydocs_task("tagging", "dev"), *pydocs_task("tagging", "test")]:
        for word, tag in zip(*example):
            held_out[tag].append(word)
    parameters = [word.lower() for word in held_out["B-PARAM"]]
    return {
        "names in training": len(seen["B-PARAM"]),
        "of them also ordinary words": len(seen["B-PARAM"] & seen["O"]),
        "held-out parameters": len(parameters),
        "ordinary words in training": share(parameters, lambda word: word in seen["O"]),
        "parameters in training": share(parameters, lambda word: word in seen["B-PARAM"]),
        "told by their spelling": share(held_out["B-PARAM"], is_unmistakable),
        "held-out exceptions": len(held_out["B-EXC"]),
        "exceptions told by their spelling": share(held_out["B-EXC"], is_unmistakable),
    }


def is_unmistakable(word: str) -> bool:
    return tasks.UNMISTAKABLE.match(word) is not None


def share(words: list[str], condition: Callable[[str], bool]) -> float:
    return round(sum(map(condition, words)) / max(1, len(words)), 3)


def answerable() -> dict:
    """Question answering: how far a bag of words gets in telling whether there is an answer at all."""
    sides = {
        side: [
            TextExample(example.question, example.context, "yes" if example.answers else "no")
            for example in pydocs_task("qa", side)
        ]
        for side in SIDES
    }
    majority = max(Counter(example.label for example in sides["train"]).items(), key=lambda item: item[1])[0]
    return {
        side: {
            "majority class": round(
                accuracy([e.label for e in sides[side]], [majority] * len(sides[side])), 4
            ),
            "bag of words": round(bag_of_words(sides["train"], sides[side]).scores["accuracy"], 4),
        }
        for side in HELD_OUT
    }


def kinds() -> dict[str, int]:
    """Question answering: how many questions of each kind, with and without an answer, over all sides."""
    counts = Counter()
    for side in SIDES:
        for example in pydocs_task("qa", side):
            kind = example.id.partition(": ")[2].partition(" of ")[0]
            counts[kind if example.answers else f"{kind} without answer"] += 1
    return dict(sorted(counts.items()))


# ---- 3. The card -------------------------------------------------------------------------------------------


def figures() -> dict:
    found = {name: description(name) | {"baselines": measured(name)} for name in PYDOCS_TASKS}
    found["pair"]["overlap"] = overlap()
    found["tagging"]["spelling"] = spelling()
    found["qa"] |= {"answerable": answerable(), "kinds": kinds()}
    return {"libraries": _installed(), "tasks": found}


def card(figures: dict) -> str:
    fields = {"libraries": ", ".join(" ".join(pair) for pair in figures["libraries"].items())}
    for name, about in figures["tasks"].items():
        fields |= {
            f"{name}_sizes": " / ".join(f"{count:,}" for count in about["examples"].values()),
            f"{name}_labels": "\n".join(label_rows(about["labels"])),
            f"{name}_words": "{mean} ({longest})".format(**about["words of an example"]),
            f"{name}_leaks": listed(about["leaks"]),
            f"{name}_shown": "\n".join(f"- {line}" for line in about["shown"]),
            f"{name}_baselines": "\n".join(baseline_rows(about["baselines"])),
            f"{name}_fingerprint": about["fingerprint"][:16],
        }
    pair, tagging, qa = (figures["tasks"][name] for name in ("pair", "tagging", "qa"))
    fields |= {
        "share_same": percent(pair["overlap"]["mean share when same"]),
        "share_other": percent(pair["overlap"]["mean share when other"]),
        "overlap_dev": percent(pair["overlap"]["dev"]),
        "overlap_test": percent(pair["overlap"]["test"]),
        "names": f"{tagging['spelling']['names in training']:,}",
        "names_words": f"{tagging['spelling']['of them also ordinary words']:,}",
        "ordinary": percent(tagging["spelling"]["ordinary words in training"]),
        "known": percent(tagging["spelling"]["parameters in training"]),
        "spelled": percent(tagging["spelling"]["told by their spelling"]),
        "exceptions_spelled": percent(tagging["spelling"]["exceptions told by their spelling"]),
        "kinds": listed(qa["kinds"]),
        "answerable_dev": percent(qa["answerable"]["dev"]["bag of words"]),
        "answerable_test": percent(qa["answerable"]["test"]["bag of words"]),
        "answerable_majority": percent(qa["answerable"]["test"]["majority class"]),
    }
    return TEMPLATE.read_text(encoding="utf-8").format(**fields)


def label_rows(of_sides: dict[str, dict[str, int]]) -> list[str]:
    names = sorted(set().union(*of_sides.values()))
    rows = ["| label | " + " | ".join(of_sides) + " |", "|---" * (1 + len(of_sides)) + "|"]
    for name in names:
        rows.append(
            f"| {name} | " + " | ".join(f"{counts.get(name, 0):,}" for counts in of_sides.values()) + " |"
        )
    return rows


def baseline_rows(of_sides: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    metrics = list(next(iter(of_sides["dev"].values())))[:2]
    columns = [f"{side}, {metric.replace('_', ' ')}" for side in of_sides for metric in metrics]
    rows = ["| baseline | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for name in of_sides["dev"]:
        scores = [percent(found[name][metric]) for found in of_sides.values() for metric in metrics]
        rows.append(f"| {name} | " + " | ".join(scores) + " |")
    return rows


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def main():
    found = figures()
    write_result("pydocs_tasks", found)
    CARD.write_text(card(found), encoding="utf-8")


if __name__ == "__main__":
    main()
