"""Multi30k English-German from one's own translations too (data diversification, Nguyen et al., 2020).

A model for each direction is trained for a sixth of the time. The first translates the training part's English, the
second its German; the last model, which gets most of the time, learns from the text and from both translations of it.
No text from elsewhere comes in.

python recipes/multi30k_diversified.py --minutes 55 [--out runs/diversified] [--seed 1] [--set KEY=VALUE ...]
seqkit evaluate runs/diversified/last data/multi30k/test_2016_flickr.{en,de}

What is complete is not made again: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from multi30k import prepare

from seqkit import Translator, config
from seqkit.data import read_lines
from seqkit.errors import SeqkitError
from seqkit.files import replace_file
from seqkit.runs.session import train
from seqkit.training.display.progress import display

RECIPE = Path(__file__).parent / "multi30k_en_de_transformer.toml"
SHARE, LAST = 1 / 6, 0.6  # of the time, for each model that translates and for the last; the rest is for translating
BEAM = 2  # of their search


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", help="folder with a local copy of the corpus; default: fetch it")
    parser.add_argument("--data", type=Path, default=Path("data/multi30k"), help="where the plain files are or go")
    parser.add_argument("--out", type=Path, default=Path("runs/diversified"), help="folder of the three run folders")
    parser.add_argument("--minutes", type=float, default=55.0, help="for all together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of all models")
    arguments = parser.parse_args()
    try:
        prepare(arguments.data, arguments.source)
        diversify(arguments)
    except SeqkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def diversify(arguments: argparse.Namespace) -> None:
    """Train, translate, train."""
    data, out, seed, minutes = arguments.data, arguments.out, arguments.seed, arguments.minutes
    own = {language: str(data / f"train.{language}") for language in ("en", "de")}
    corpora = [own]
    for number, (source, target) in enumerate((("en", "de"), ("de", "en")), start=1):
        run, made = out / f"{source}-{target}", out / f"from_{source}.{target}"
        words = [f"train.minutes={SHARE * minutes:.2f}", f"train.seed={1000 * number + seed}", *arguments.set]
        learn(run, [own], data / "val", source, target, words)
        if not made.exists():
            translations = Translator.load(run).translate(read_lines(own[source]), beam=BEAM)
            replace_file(made, "".join(f"{translation.text}\n" for translation in translations))
        corpora.append({**own, target: str(made)})
    words = [f"train.minutes={LAST * minutes:.2f}", f"train.seed={seed}", f'text.from="{out / "en-de"}"']
    learn(out / "last", corpora, data / "val", "en", "de", [*words, *arguments.set])


def learn(
    run: Path, corpora: Sequence[Mapping[str, str]], dev: Path, source: str, target: str, words: Sequence[str]
) -> None:
    """Train one model, or go on with it; a corpus is a file for each language."""
    files = [corpus[language] for corpus in corpora for language in (source, target)]
    given = [f"data.train={json.dumps(files)}", f'data.dev=["{dev}.{{{source},{target}}}"]']
    given += [f"data.source={source}", f"data.target={target}"]
    print(run, file=sys.stderr)
    shown = display(terminal=sys.stderr.isatty(), quiet=False, log_seconds=30)
    train(config.load(RECIPE, [*given, *words]), out=run, display=shown)


if __name__ == "__main__":
    sys.exit(main())
