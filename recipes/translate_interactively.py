"""Type sentences, read translations and see where the model looked: the core of `seqkit translate` in a page.

python recipes/translate_interactively.py runs/en-de
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from seqkit import Translator
from seqkit.errors import ModelError, SeqkitError
from seqkit.inference.heat_map import heat_map
from seqkit.system.terminal import escape


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder or model folder")
    parser.add_argument("--align", action="store_true", help="draw the attention below each translation")
    arguments = parser.parse_args()
    try:
        translator = Translator.load(arguments.run)
    except SeqkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(translator.description, file=sys.stderr)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return 0
        (translation,) = translator.translate([line])
        print(escape(translation.text))
        if arguments.align and translation.text:
            try:
                alignment = translator.align(line, translation)
            except ModelError as error:
                print(error, file=sys.stderr)
                continue
            width = shutil.get_terminal_size((100, 24)).columns
            print("\n".join(heat_map(*alignment, width=width, colour=False)))


if __name__ == "__main__":
    sys.exit(main())
