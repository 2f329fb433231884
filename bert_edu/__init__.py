"""BERT from the ground up: every part of BERT in plain PyTorch, a module per idea, in the book's order."""

__version__ = "0.1.0"

from . import environment

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

try:
    environment.check()
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
except (ImportError, OSError) as error:  # OSError: a library of PyTorch's own that cannot be loaded
    # `bert-edu doctor` must start where PyTorch does not. The error is for whoever asks for one of the names.
    _lacking = error

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise _lacking
