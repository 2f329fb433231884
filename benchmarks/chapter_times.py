"""How long each chapter runs, from its first cell to its last, on this machine.

python benchmarks/chapter_times.py    # in a quiet moment; about a quarter of an hour on two cores

The chapters run as in the tests: one thread each, those that train on all. The preface shows the seconds, and
the minutes that a reader needs are reckoned with them; a test holds both to what is measured here.
"""

import sys
import time
from pathlib import Path

from measure import write_result

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "tools"))

import notebooks  # noqa: E402 -- the author's tool, which is no package


def main():
    seconds = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = notebooks.read(path)
        start = time.perf_counter()
        notebooks.run(notebook, path)
        seconds[path.stem] = round(time.perf_counter() - start)
        print(path.stem, seconds[path.stem], flush=True)
    write_result("chapter_times", {"seconds": seconds, "in_all": sum(seconds.values())})


if __name__ == "__main__":
    main()
