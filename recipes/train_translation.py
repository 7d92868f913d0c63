"""Train a translator from two files and score it, as a page of library calls.

python recipes/train_translation.py --train train.en train.de --dev dev.en dev.de --out run --minutes 5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqkit import Recipe, Translator, settings
from seqkit.data import read_pairs
from seqkit.errors import SeqkitError
from seqkit.metrics import corpus_scores
from seqkit.runs.session import train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", required=True, help="source and target file, or one TSV")
    parser.add_argument("--dev", nargs="+", required=True, help="the same for the development set")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to train")
    parser.add_argument("--size", type=int, default=4000, help="subword pieces")
    arguments = parser.parse_args()

    # A recipe in Python is the same object as a recipe in TOML: every mistake is an error at once.
    recipe = Recipe(
        name="own",
        data=settings.Pairs(train=tuple(arguments.train), dev=tuple(arguments.dev)),
        text=settings.SentencePiece(size=arguments.size),
        model=settings.Transformer(width=128, encoder_layers=3, decoder_layers=2, feed_forward=512, dropout=0.2),
        train=settings.Train(
            minutes=arguments.minutes,
            batch_tokens=2560,
            learning_rate=4e-3,
            optimizer=settings.Muon(),
            schedule=settings.LinearDecay(warmup=100, hold=0.2),
        ),
    )
    try:
        progress = train(recipe, out=arguments.out)
        print(f"trained {progress.step} steps; best development BLEU {progress.best:.1f} at step {progress.best_step}")

        translator = Translator.load(arguments.out)
        dev = read_pairs(arguments.dev)
        hypotheses = [translation.text for translation in translator.translate(dev.source)]
        for score in corpus_scores(hypotheses, [dev.target], metrics=("bleu", "chrf")):
            print(f"{score.name} {score.value:.1f} [{score.low:.1f}, {score.high:.1f}]  {score.signature}")
    except SeqkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
