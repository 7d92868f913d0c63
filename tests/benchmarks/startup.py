"""How long seqkit takes to answer, as medians over whole processes; bare Python beside it.

python tests/benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time

from measuring import print_rows, row_of

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "seqkit --help": ["-m", "seqkit", "--help"],
    "seqkit config keys": ["-m", "seqkit", "config", "keys"],
    "seqkit train --help": ["-m", "seqkit", "train", "--help"],
    "seqkit translate --help": ["-m", "seqkit", "translate", "--help"],
}


def main() -> None:
    rows = []
    for name, words in COMMANDS.items():
        times = []
        for _ in range(11):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times.append(1e3 * (time.perf_counter() - began))
        rows.append(row_of(name, times, unit="ms"))
    print_rows("start-up", rows, baseline="python -c pass")


if __name__ == "__main__":
    main()
