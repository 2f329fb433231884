"""Encoding English text: our own Python beside that of `transformers`, and both fast paths.

    python benchmarks/tokenization.py --text wiki-valid.txt --vocab vocab.txt

The text is any file of English, one paragraph a line; the vocabulary any BERT one for lower-cased text.
"""

import argparse
from pathlib import Path

import tokenizers
import transformers
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from bert_edu import BertTokenizer
from measure import alternate, medians, write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--characters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    transformers.logging.set_verbosity_error()  # paragraphs beyond 512 tokens are no concern here
    text = arguments.text.read_text(encoding="utf-8")[: arguments.characters]
    paragraphs = text.splitlines()
    ours = BertTokenizer(arguments.vocab, fast=False)
    ours_fast = BertTokenizer(arguments.vocab)
    legacy = BertTokenizerLegacy(str(arguments.vocab))
    published = transformers.BertTokenizer(vocab=ours.vocab)

    # Each encodes the paragraphs one by one, into ids, segments and mask; ours give offsets too.
    encoders = {
        "ours, fast=False": ours,
        "transformers, BertTokenizerLegacy": legacy,
        "ours, fast=True": ours_fast,
        "transformers, BertTokenizer": published,
    }
    expected = [encoding.input_ids for encoding in map(ours, paragraphs)]
    differing = {
        name: sum(encode(paragraph).input_ids != ids for paragraph, ids in zip(paragraphs, expected))
        for name, encode in encoders.items()
    }
    runs = {name: lambda encode=encode: list(map(encode, paragraphs)) for name, encode in encoders.items()}
    seconds = medians(alternate(runs, arguments.rounds))
    ratio = seconds["ours, fast=False"] / seconds["transformers, BertTokenizerLegacy"]
    write_result(
        "tokenization_speed",
        {
            "text": {
                "characters": len(text),
                "bytes": len(text.encode()),
                "paragraphs": len(paragraphs),
                "tokens": sum(map(len, expected)),
            },
            "rounds": arguments.rounds,
            "tokenizers_version": tokenizers.__version__,
            "seconds": {name: round(median, 3) for name, median in seconds.items()},
            "ours_over_legacy": round(ratio, 3),
            "paragraphs_whose_ids_differ_from_ours": differing,
        },
    )


if __name__ == "__main__":
    main()
