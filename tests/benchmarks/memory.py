"""Whether `seqkit translate` needs more memory the longer it runs: lines through a pipe, resident size on the way.

    python tests/benchmarks/memory.py runs/t --text test.en --lines 1000000 --set search.beam=1

The lines of the text are sent again and again. What comes out is counted, and must be as many lines as went in.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from seqkit.data import read_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--set", nargs="*", default=[], metavar="search.KEY=VALUE", help="change our search")
    arguments = parser.parse_args()
    words = [sys.executable, "-m", "seqkit", "translate", str(arguments.run), *arguments.set]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = itertools.islice(itertools.cycle(read_lines(arguments.text)), arguments.lines)
        threading.Thread(target=feed, args=(process.stdin, lines), daemon=True).start()
        began, count = time.perf_counter(), 0
        for count, _ in enumerate(process.stdout, start=1):
            if count % (arguments.lines // 10) == 0:
                seconds = time.perf_counter() - began
                print(f"{count} lines  {resident(process.pid):.0f} MiB  {count / seconds:.0f} lines/s", flush=True)
    print(f"{count} of {arguments.lines} lines came out; exit code {process.returncode}")


def feed(pipe: BinaryIO, lines: itertools.islice[str]) -> None:
    """Write the lines, and close."""
    with pipe:
        for line in lines:
            pipe.write(f"{line}\n".encode())


def resident(process: int) -> float:
    """The resident size of a process, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(row.split()[1]) / 1024 for row in status.splitlines() if row.startswith("VmRSS"))


if __name__ == "__main__":
    main()
