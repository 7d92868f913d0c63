"""Multi30k English-German, start to end: prepare the data, train each model, score it, compare with what to expect.

python recipes/multi30k.py --from DIR
python recipes/multi30k.py --models gru transformer --minutes 5
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from seqkit import Translator, config
from seqkit.data import read_pairs
from seqkit.errors import SeqkitError
from seqkit.metrics import corpus_scores
from seqkit.runs.session import train

HERE = Path(__file__).parent
EXPECTED = {"gru": 34.0, "lstm": 34.0, "transformer": 38.0}  # sacreBLEU on test_2016_flickr after 20 minutes, two cores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", help="folder with a local copy of the corpus; default: fetch it")
    parser.add_argument("--data", type=Path, default=Path("data/multi30k"), help="where the plain files are or go")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the run folders")
    parser.add_argument("--models", nargs="+", choices=EXPECTED, default=list(EXPECTED))
    parser.add_argument("--minutes", type=float, default=20.0, help="training time of each model")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further settings for all models")
    arguments = parser.parse_args()
    try:
        prepare(arguments.data, arguments.source)
        rows = [(model, reached(model, arguments)) for model in arguments.models]
    except SeqkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{'model':12} {'expected':>9} {'reached':>9}")
    for model, (score, signature) in rows:
        print(f"{model:12} {EXPECTED[model]:9.1f} {score:9.1f}   {signature}")
    return 0


def prepare(data: Path, source: str | None) -> None:
    """Write the plain files, unless they are there."""
    if (data / "train.de").exists():
        return
    script = HERE.parent / "data_scripts" / "multi30k.py"
    extra = [] if source is None else ["--from", source]
    if code := subprocess.call([sys.executable, str(script), "--out", str(data), *extra]):
        raise SystemExit(code)


def reached(model: str, arguments: argparse.Namespace) -> tuple[float, str]:
    """Train (or go on with, or take) one model; its test score and the score's signature."""
    files = {f"data.{part}": [str(arguments.data / f"{name}.{{en,de}}")] for part, name in PARTS.items()}
    words = [f"{key}={value}".replace("'", '"') for key, value in files.items()]
    recipe = config.load(
        HERE / f"multi30k_en_de_{model}.toml", [*words, f"train.minutes={arguments.minutes}", *arguments.set]
    )
    run = arguments.out / recipe.name
    train(recipe, out=run)
    test = read_pairs([str(arguments.data / "test_2016_flickr.{en,de}")], keep_blank=True)
    hypotheses = [translation.text for translation in Translator.load(run).translate(test.source)]
    (score,) = corpus_scores(hypotheses, [test.target], metrics=("bleu",))
    return score.value, score.signature


PARTS = {"train": "train", "dev": "val"}

if __name__ == "__main__":
    sys.exit(main())
