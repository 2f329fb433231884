"""All that `bert-edu bench` measures, kept as a result.

python benchmarks/bench.py --threads 2 --texts 512
"""

import argparse
from dataclasses import fields

import torch

from bert_edu.bench.material import Settings
from bert_edu.bench.report import PARTS, measure
from measure import write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--name", default="bench", help="of the result")
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in fields(Settings)})
    result = measure(arguments.parts or list(PARTS), settings)
    write_result(arguments.name, {"settings": result["settings"], **result["figures"]})


if __name__ == "__main__":
    main()
