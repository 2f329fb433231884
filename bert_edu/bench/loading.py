"""From a folder to a model that can be used, with the imports in a fresh process and without."""

import statistics
import subprocess
import sys
import time

from ..heads import BertForPreTraining
from .material import OURS, THEIRS, Settings, stored, theirs_like
from .timing import alternate, has_transformers, medians

PACKAGES = {OURS: "bert_edu", THEIRS: "transformers"}
FRESH = 3  # processes of each


def speed(settings: Settings) -> dict:
    """Seconds of `from_pretrained`, and of a whole process that imports, loads and ends."""
    model = BertForPreTraining(settings.config)
    names = [OURS] + [THEIRS] * has_transformers()
    with stored(model) as folder:
        contestants = {OURS: lambda: BertForPreTraining.from_pretrained(folder)}
        if has_transformers():
            contestants[THEIRS] = lambda: type(theirs).from_pretrained(folder)
            theirs = theirs_like(model, "BertForPreTraining")
        seconds = medians(alternate(contestants, settings.rounds))
        fresh = {name: [] for name in names}
        for _ in range(FRESH):
            for name in names:
                fresh[name].append(fresh_process(PACKAGES[name], folder))
    figures = {"parameters": sum(weight.numel() for weight in model.parameters())}
    for name in names:
        figures[name] = {
            "seconds": round(seconds[name], 4),
            "seconds_with_imports": round(statistics.median(fresh[name]), 2),
        }
    if has_transformers():
        figures[THEIRS]["ours_over_it"] = round(seconds[THEIRS] / seconds[OURS], 2)
    return figures


def fresh_process(package: str, folder: str) -> float:
    """Seconds that a new Python takes to import a package and load the model with it."""
    code = f"from {package} import BertForPreTraining; BertForPreTraining.from_pretrained({folder!r})"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start
