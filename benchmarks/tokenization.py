"""Encoding English text: our own Python beside that of `transformers`, and both fast paths.

    python benchmarks/tokenization.py --text wiki-valid.txt --vocab vocab.txt

The text is any file of English, one paragraph a line; the vocabulary any BERT one for lower-cased text.
`bert_edu.bench.tokenization` says what is compared.
"""

import argparse
from pathlib import Path

import tokenizers

from bert_edu.bench.tokenization import PYTHON, THEIR_PYTHON, encoders, measured
from measure import write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--characters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    paragraphs = arguments.text.read_text(encoding="utf-8")[: arguments.characters].splitlines()
    figures = {"paragraphs": len(paragraphs), "rounds": arguments.rounds}
    figures |= {"tokenizers_version": tokenizers.__version__}
    figures |= measured(paragraphs, encoders(arguments.vocab), arguments.rounds)
    figures["ours_over_legacy"] = round(figures[PYTHON]["seconds"] / figures[THEIR_PYTHON]["seconds"], 3)
    write_result("tokenization_speed", figures)


if __name__ == "__main__":
    main()
