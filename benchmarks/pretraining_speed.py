"""A pre-training step of the mini shape with a small vocabulary, ours beside `transformers`.

    python benchmarks/pretraining_speed.py --corpus pydocs
    python benchmarks/pretraining_speed.py --corpus wiki-valid.txt --name pretraining_speed_wikipedia

`bert_edu.bench.pretraining` says what is compared; here it is, with dropout and without. The ratio is that to
`transformers` as its users feed it, in random order.
"""

import argparse

from bert_edu.bench.material import OURS, THEIRS, Settings
from bert_edu.bench.pretraining import speed
from measure import write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="pydocs", help="pydocs or a text file")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--name", default="pretraining_speed", help="of the result")
    arguments = parser.parse_args()
    figures = {}
    for dropout in (0.1, 0.0):
        settings = Settings(
            corpus=arguments.corpus,
            vocab_size=arguments.vocab_size,
            texts=arguments.texts,
            rounds=arguments.rounds,
            precision=arguments.precision,
            dropout=dropout,
        )
        found = speed(settings)
        figures[f"dropout {dropout:g}"] = {
            "ours_tokens_per_second": found[OURS]["tokens_per_second"],
            "transformers_tokens_per_second": found[THEIRS]["tokens_per_second"],
            "ratio": found[THEIRS]["ours_over_it"],
        }
    shape = (
        f"{settings.preset}, V {settings.vocab_size:,}, at most {settings.max_length} tokens a row, "
        f"{settings.batch_tokens} a batch"
    )
    facts = {"pairs": settings.texts, "tokens": found["tokens"], "precision": settings.precision}
    write_result(arguments.name, {"shape": shape} | facts | figures)


if __name__ == "__main__":
    main()
