"""What the package cannot do without, looked for before anything else is imported.

Each lack is one sentence that says what to do. Older Pythons must be able to read this file.
"""

import importlib.util
import sys

OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 4)
NEEDED = ("torch", "numpy", "safetensors", "tokenizers")  # without these not one module can be imported


def check():
    """Looks at Python, at the packages that every module needs, and at PyTorch's version.

    Raises:
        ImportError: for the first thing that is wrong.
    """
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise ImportError(
            f"bert_edu needs Python {_dotted(OLDEST_PYTHON)} or later, and {sys.executable} is Python "
            f"{_dotted(sys.version_info[:3])}: make a virtual environment with a newer one"
        )
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f"{name} is not installed, and bert_edu needs it: pip install {name}", name=name
            )
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise ImportError(
            f"bert_edu needs PyTorch {_dotted(OLDEST_TORCH)} or later, and this is {torch.__version__}: "
            f"pip install --upgrade torch"
        )


def _dotted(version: tuple) -> str:
    return ".".join(map(str, version))
