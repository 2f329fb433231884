"""The model that comes with the book: 4 layers, 256 wide, trained with `bert-edu pretrain`.

MODEL_CARD.md in this folder says on what text, for how long, and what came of it; metrics.jsonl is its curve.
"""

from pathlib import Path

from ..heads import BertForPreTraining
from ..tokenization import BertTokenizer

FOLDER = Path(__file__).parent


def load_mini() -> tuple[BertForPreTraining, BertTokenizer]:
    """The shipped model in eval mode, with its tokenizer: lower case, V 8,192, at most 512 tokens.

    On disk its weights have half precision; in memory they are float32.
    """
    return BertForPreTraining.from_pretrained(FOLDER), BertTokenizer.from_pretrained(FOLDER)
