"""BERT from the ground up: every part of BERT in plain PyTorch, a module per idea, in the book's order."""

__version__ = "0.1.0"

from .config import BertConfig
from .heads import (
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from .mini import load_mini
from .model import BertModel
from .tokenization import BertTokenizer, train_wordpiece

__all__ = [
    "BertConfig",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertTokenizer",
    "load_mini",
    "train_wordpiece",
]
