"""Results with their provenance: the programs here measure with `bert_edu.bench` and write with this."""

import datetime
import json
import shlex
import sys
from pathlib import Path

from bert_edu.bench.timing import alternate, machine, medians, versions  # noqa: F401 -- two for the others


def write_result(name: str, figures: dict, after: str | None = None) -> Path:
    """Writes results/NAME.json: the figures, and how and where and when they were obtained.

    Args:
        after: the command that measured what this one only adds to.
    """
    command = "python benchmarks/" + shlex.join(
        [Path(sys.argv[0]).name] + [without_folder(a) for a in sys.argv[1:]]
    )
    result = {
        "command": command if after is None else f"{after}; {command}",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "figures": figures,
    }
    path = Path(__file__).parent.parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return path


def without_folder(argument: str) -> str:
    """A file's name without the folder it lay in on the machine that measured."""
    return Path(argument).name
