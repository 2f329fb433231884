"""How long each chapter runs, from its first cell to its last, on this machine.

python benchmarks/chapter_times.py                  # in a quiet moment; a quarter of an hour on two cores
python benchmarks/chapter_times.py 08_inspecting    # one chapter again; the others keep what they had

The chapters run as in the tests: one thread each, those that train on all. The preface shows the seconds, and
the minutes that a reader needs are reckoned with them; a test holds both to what is measured here.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from measure import write_result

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "tools"))

import notebooks  # noqa: E402 -- the author's tool, which is no package


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="names without .ipynb; all, if none is given")
    named = parser.parse_args().chapters
    seconds, after = {}, None
    if named:
        stored = json.loads((ROOT / "results" / "chapter_times.json").read_text(encoding="utf-8"))
        seconds, after = stored["figures"]["seconds"], stored["command"]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if named and path.stem not in named:
            continue
        notebook = notebooks.read(path)
        start = time.perf_counter()
        notebooks.run(notebook, path)
        seconds[path.stem] = round(time.perf_counter() - start)
        print(path.stem, seconds[path.stem], flush=True)
    write_result("chapter_times", {"seconds": seconds, "in_all": sum(seconds.values())}, after)


if __name__ == "__main__":
    main()
