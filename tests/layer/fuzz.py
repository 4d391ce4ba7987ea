"""The header parser under a coverage-guided fuzzer: ``python -m tests.layer.fuzz FOLDER [options]``.

`make fuzz SECONDS=3600` runs it for an hour. FOLDER, an empty one, gets the inputs that it starts from,
which are made anew each time from the corpus of attacks, and those that it finds; what a failure was
found with is left in the current folder. The options are libFuzzer's.
"""

from __future__ import annotations

import os
import sys

import atheris

with atheris.instrument_imports(include=["graphdriver.layer"]):
    from tests.layer.fuzz_target import ENOUGH, seeds, target


def main(folder: str, *options: str) -> None:
    for number, seed in enumerate(seeds()):
        with open(os.path.join(folder, str(number)), "wb") as file:
            file.write(seed)
    limits = (f"-max_len={ENOUGH}", "-timeout=10", "-rss_limit_mb=1024")
    atheris.Setup([sys.argv[0], *limits, *options, folder], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
