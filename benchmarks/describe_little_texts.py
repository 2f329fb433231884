"""Describes the little texts and how far a second, blind annotation agrees; writes their data card.

    python benchmarks/describe_little_texts.py

Writes results/little_texts.json and, from its figures, bert_edu/data/little_texts.md.
"""

import json
from collections import Counter
from pathlib import Path

from bert_edu.data.little_texts import FILE, SIDES, little_texts, without_marks
from bert_edu.data.pydocs import stretches
from measure import write_result

SECOND = FILE.with_name("little_texts_second.jsonl")
CARD = FILE.with_suffix(".md")
RUN = 5  # words: texts that share such a run may have been built alike


def description() -> dict:
    """Counts over all texts."""
    texts = little_texts()
    words = [len(text.text.split()) for text in texts]
    return {
        "texts": len(texts),
        "sides": {side: len(little_texts(side)) for side in SIDES},
        "words": sum(words),
        "shortest": min(words),
        "longest": max(words),
        "kinds": len({text.kind for text in texts}),
        "sentiments": dict(sorted(Counter(text.sentiment for text in texts).items())),
        "names": dict(sorted(Counter(name.kind for text in texts for name in text.names).items())),
        "questions": sum(len(text.questions) for text in texts),
        "without answer": sum(asked.start is None for text in texts for asked in text.questions),
    }


def overlap() -> dict:
    """How many texts share a run of words with another one."""
    owners = {}
    for text in little_texts():
        for run in stretches([text.text], RUN):
            owners.setdefault(run, set()).add(text.id)
    shared = {run: ids for run, ids in owners.items() if len(ids) > 1}
    return {
        "length of a run": RUN,
        "different runs": len(owners),
        "in more than one text": len(shared),
        "texts that share one": len(set().union(*shared.values())),
    }


def agreement() -> dict:
    """The first and the second annotation of the texts that have both."""
    first = {text.id: text for text in little_texts()}
    second = [json.loads(line) for line in SECOND.read_text(encoding="utf-8").splitlines()]
    sentiments, same_names, names_1, names_2 = [], 0, 0, 0
    answers = Counter()
    for row in second:
        text = first[row["id"]]
        plain, names = without_marks(row["text"])
        if plain != text.text:
            raise ValueError(f"the second annotation of {row['id']} changed the text")
        sentiments.append((text.sentiment, row["sentiment"]))
        same_names += len(set(names) & set(text.names))
        names_1, names_2 = names_1 + len(text.names), names_2 + len(names)
        for asked, answer in zip(text.questions, row["answers"], strict=True):
            expected = None if asked.start is None else text.text[asked.start : asked.end]
            answers["questions"] += 1
            answers["agree whether there is an answer"] += (expected is None) == (answer is None)
            if expected is not None and answer is not None:
                answers["both answer"] += 1
                answers["the same words"] += expected == answer
                answers["overlapping words"] += bool(
                    set(expected.lower().split()) & set(answer.lower().split())
                )
    return {
        "texts": len(second),
        "sentiment": {
            "the same": sum(a == b for a, b in sentiments),
            "kappa": round(kappa(sentiments), 3),
        },
        "names": {
            "first": names_1,
            "second": names_2,
            "the same": same_names,
            "span F1": round(2 * same_names / (names_1 + names_2), 3),
        },
        "answers": dict(answers),
    }


def kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's kappa: how much of the agreement that chance leaves open was reached."""
    total = len(pairs)
    observed = sum(a == b for a, b in pairs) / total
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(left[label] * right[label] for label in left) / total**2
    return (observed - by_chance) / (1 - by_chance)


def card(figures: dict) -> str:
    about, agreed, shared = figures["description"], figures["agreement"], figures["overlap"]
    template = (Path(__file__).parent / "little_texts_card.md").read_text(encoding="utf-8")
    return template.format(
        **{name: about[name] for name in ("texts", "shortest", "longest", "words", "kinds", "questions")},
        **about["sides"],
        sentiments=listed(about["sentiments"]),
        names=listed(about["names"]),
        without=about["without answer"],
        second=agreed["texts"],
        sentiment_same=agreed["sentiment"]["the same"],
        kappa=agreed["sentiment"]["kappa"],
        span_f1=agreed["names"]["span F1"],
        names_same=agreed["names"]["the same"],
        names_first=agreed["names"]["first"],
        names_second=agreed["names"]["second"],
        answer_agree=agreed["answers"]["agree whether there is an answer"],
        answer_questions=agreed["answers"]["questions"],
        answer_both=agreed["answers"]["both answer"],
        answer_same=agreed["answers"]["the same words"],
        answer_overlap=agreed["answers"]["overlapping words"],
        runs=shared["different runs"],
        run=shared["length of a run"],
        runs_shared=shared["in more than one text"],
        texts_sharing=shared["texts that share one"],
    )


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def main():
    figures = {"description": description(), "overlap": overlap(), "agreement": agreement()}
    write_result("little_texts", figures)
    CARD.write_text(card(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
