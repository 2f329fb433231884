"""Fine-tuning a classifier: ours beside `transformers`' BertForSequenceClassification, on the same texts.

    python benchmarks/finetuning_speed.py
    python benchmarks/finetuning_speed.py --data sst2/train.tsv --rounds 7

The texts are those of the task "topic" from the documentation, and those of a TSV file if one is named.
`bert_edu.bench.finetuning` says what is compared.
"""

import argparse
from pathlib import Path

from bert_edu.bench.finetuning import DOCUMENTATION, contestants, memory, speed
from bert_edu.bench.material import Settings
from measure import write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a TSV file to measure on as well")
    parser.add_argument("--examples", type=int, default=512, help="texts in a round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = Settings(
        texts=options.examples,
        batch_tokens=options.batch_size * options.max_length,
        max_length=options.max_length,
        precision=options.precision,
        rounds=options.rounds,
    )
    sources = {DOCUMENTATION: DOCUMENTATION}
    if options.data:
        sources["/".join(Path(options.data).parts[-2:])] = options.data
    shape = f"mini, batches of {options.batch_size}, at most {options.max_length} tokens a text"
    figures = {"shape": shape, "precision": options.precision}
    for title, source in sources.items():
        taken = memory(settings, source)
        figures[title] = speed(settings, source)
        for name in contestants():
            figures[title][name] |= taken[name]
    write_result("finetuning_speed", figures)


if __name__ == "__main__":
    main()
