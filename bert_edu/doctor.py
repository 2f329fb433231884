"""What is wrong with an environment, and what to do about it: `bert-edu doctor`.

Nothing here imports what it examines before it is known to be there, so that a broken environment still gets
its answer. That is also why annotations are not evaluated: an old Python must be able to read this file.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .environment import OLDEST_PYTHON

FINE, NOTE, WRONG = "fine", "note", "WRONG"
LITTLE_SPACE = 2e9  # bytes free in a folder where much is to be kept


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: `FINE`; `NOTE`, which only some things need; or `WRONG`, with which the book does not run.
        what: what was looked at.
        says: what was found and, unless it is fine, what to do.
    """

    state: str
    what: str
    says: str

    def __str__(self) -> str:
        return f"{self.state:6}{self.what:15}{self.says}"


def report() -> int:
    """Prints what is found, a line each, and what it comes to; returns how many things are wrong."""
    print(f"bert-edu {__version__}")
    wrong = 0
    for finding in examination():
        print(finding, flush=True)
        wrong += finding.state == WRONG
    if wrong:
        print(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong: see the lines above")
    else:
        print("nothing is wrong")
    return wrong


def examination() -> Iterator[Finding]:
    """Looks at one thing after the other, whatever became of those before."""
    yield from python()
    if sys.version_info[:2] < OLDEST_PYTHON:  # nothing else can be looked at
        return
    looks = (packages, extras, kernel, processor, graphics, data_folder, hub_folder, work, shipped_model)
    for look in looks:
        what = look.__name__.replace("_", " ")
        try:
            yield from look()
        except ModuleNotFoundError as error:
            package = str(error.name).split(".")[0]
            yield Finding(WRONG, what, f"cannot be looked at without {package}: pip install {package}")
        except Exception as error:  # whatever is wrong with one thing, the others are looked at
            yield Finding(WRONG, what, f"{type(error).__name__}: {error}")


# ---- One thing each ----------------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    """The interpreter's version."""
    found = f"{platform.python_version()} on {platform.system()}, {platform.machine()}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield Finding(WRONG, "Python", f"{found}: the package needs {oldest} or later; install a newer one")
    else:
        yield Finding(FINE, "Python", found)


def packages(
    requirements: list[str] | None = None, version: Callable[[str], str] = importlib.metadata.version
) -> Iterator[Finding]:
    """Every run-time dependency, in the range that the package asks for."""
    if requirements is None and _version_or_none("bert-edu") is None:
        place = Path(__file__).parent
        yield Finding(WRONG, "packages", f"are not known, because {place} is not installed: pip install it")
        return
    if requirements is None:
        requirements = importlib.metadata.requires("bert-edu") or []
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in requirements]
    good = []
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(
                WRONG,
                requirement.name,
                f'is not installed: pip install "{requirement.name}{requirement.specifier}"',
            )
            continue
        if requirement.specifier.contains(found, prereleases=True):
            good.append(f"{requirement.name} {found}")
        else:
            yield Finding(
                WRONG,
                requirement.name,
                f'is version {found}: pip install "{requirement.name}{requirement.specifier}"',
            )
    if good:
        yield Finding(FINE, "packages", ", ".join(good))


def extras() -> Iterator[Finding]:
    """What only figures, or only the book's own tests, need."""
    for what, names, purpose, remedy in (
        ("viz", ("matplotlib", "seaborn", "altair"), "the chapters' figures", '"bert-edu[viz]"'),
        ("tensorboard", ("tensorboard",), "bert-edu pretrain --tensorboard", '"bert-edu[tensorboard]"'),
        ("comparisons", ("transformers",), "chapters 2, 7, 8, 10 and 18 compare with it", "transformers"),
    ):
        missing = [name for name in names if _version_or_none(name) is None]
        if missing:
            yield Finding(NOTE, what, f"{purpose}: {', '.join(missing)} missing; pip install {remedy}")
        else:
            yield Finding(FINE, what, ", ".join(f"{name} {_version_or_none(name)}" for name in names))


def kernel() -> Iterator[Finding]:
    """Whether notebooks would run with this interpreter."""
    if "google.colab" in sys.modules:
        yield Finding(FINE, "notebooks", "this is Colab")
        return
    if _version_or_none("ipykernel") is None:
        yield Finding(NOTE, "notebooks", "ipykernel is missing; to run chapters: pip install jupyterlab")
        return
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    runs = manager.get_kernel_spec("python3").argv[0]
    if os.path.basename(runs).startswith("python") and not os.path.isabs(runs):
        runs = shutil.which(runs) or runs
    if os.path.isabs(runs) and os.path.realpath(runs) != os.path.realpath(sys.executable):
        yield Finding(
            WRONG,
            "notebooks",
            "the kernel python3 belongs to another Python, where this package may be missing: "
            "python -m ipykernel install --sys-prefix",
        )
    else:
        yield Finding(FINE, "notebooks", "the kernel python3 is this Python")


def processor() -> Iterator[Finding]:
    """Cores, and whether PyTorch computes at a reasonable speed."""
    import torch

    square = torch.randn(512, 512)
    square @ square
    seconds = min(_seconds(lambda: square @ square) for _ in range(5))
    speed = 2 * 512**3 / seconds / 1e9
    says = (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {speed:.0f} billion operations a second"
    )
    if torch.get_num_threads() > (os.cpu_count() or 1):
        yield Finding(NOTE, "processor", f"{says}: more threads than cores; set OMP_NUM_THREADS lower")
    else:
        yield Finding(FINE, "processor", says)


def graphics() -> Iterator[Finding]:
    """A GPU that PyTorch can use; the book needs none."""
    import torch

    if not torch.cuda.is_available():
        why = (
            "PyTorch was built without CUDA" if torch.version.cuda is None else "PyTorch finds no NVIDIA GPU"
        )
        yield Finding(FINE, "GPU", f"none ({why}); the book needs none")
        return
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        square = torch.ones(64, 64, device=f"cuda:{number}")
        works = (square @ square)[0, 0].item() == 64  # a driver that is too old fails here
        says = f"{device.name}, {device.total_memory / 1e9:.0f} GB, {'bf16' if bf16 else 'fp16'}"
        yield Finding(FINE if works else WRONG, f"GPU {number}", says)


def data_folder() -> Iterator[Finding]:
    """Whether texts can be kept."""
    from .data.downloads import cache_folder

    yield _place("texts", cache_folder(), "BERT_EDU_DATA", parents=True)


def hub_folder() -> Iterator[Finding]:
    """Whether the published model that chapters load is here, or can be kept when the hub gives it."""
    from .notebook import published_model

    if Path(published_model()).is_dir():
        yield Finding(FINE, "real model", f"is in {published_model()}")
        return
    from huggingface_hub.constants import HF_HUB_CACHE

    yield _place("real model", Path(HF_HUB_CACHE), "HF_HUB_CACHE", parents=True)


def work() -> Iterator[Finding]:
    """Whether long runs of a notebook can be kept."""
    from .notebook import WORK

    if place := os.environ.get(WORK):
        yield _place("long runs", Path(place), WORK, parents=False)
    else:
        yield Finding(FINE, "long runs", f"of notebooks are not kept: {WORK} names no folder for them")


def shipped_model() -> Iterator[Finding]:
    """Whether the model that comes with the book fills a gap."""
    import torch

    from .mini import load_mini

    start = time.perf_counter()
    model, tokenizer = load_mini()
    batch = tokenizer.batch(["She drank a cup of [MASK]."])
    place = batch.input_ids[0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        scores = model(batch.input_ids, attention_mask=batch.attention_mask).prediction_logits  # (1, T, V)
    word = tokenizer.id_to_token(int(scores[0, place].argmax()))
    yield Finding(
        FINE,
        "shipped model",
        f"She drank a cup of {word}. ({time.perf_counter() - start:.1f} seconds)",
    )


# ---- What the above share ----------------------------------------------------------------------------------


def _place(what: str, folder: Path, variable: str, parents: bool) -> Finding:
    """Whether a folder, which an environment variable can name, is there or can be made, and has room."""
    advice = f"name another folder in the environment variable {variable}"
    try:
        folder.mkdir(parents=parents, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(WRONG, what, f"{folder} cannot be written to ({error.strerror}): {advice}")
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE:
        return Finding(NOTE, what, f"only {free / 1e9:.1f} GB are free in {folder}: {advice}")
    return Finding(FINE, what, f"are kept in {folder}, {free / 1e9:.0f} GB free")


def _version_or_none(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
