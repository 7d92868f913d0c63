"""Generated parallel corpora: English numbers, dates and times with their German translation, and reversed words.

A third corpus, of labelled sentences, is in `seqkit.demo.labelled_corpus`; `write` writes any of them.

The first one needs reordering (units before tens, the weekday first), which is visible in its attention weights:

    three hundred and forty-two          dreihundertzweiundvierzig
    the 5th of March 1987, a Thursday    Donnerstag, der 5. März 1987
    half past three                      halb vier
"""

# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Literal

from seqkit.demo import labelled_corpus as labels
from seqkit.demo.spelling import english, english_ordinal, german, german_ordinal
from seqkit.errors import ConfigError, DataError, ResourceError
from seqkit.files import replace_file

__all__ = ["DemoTask", "numbers", "reverse", "split", "write"]

DemoTask = Literal["numbers", "reverse", "labels"]
SentencePair = tuple[str, str]  # source, target

LARGEST_CORPUS = 100_000  # pairs; far more distinct ones exist, so that few draws are duplicates
TRAIN, DEV, TEST = 8000, 200, 500  # pairs in each written file

ENGLISH_MONTHS = "January February March April May June July August September October November December".split()
ENGLISH_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
GERMAN_MONTHS = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()
GERMAN_DAYS = "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split()

NUMBERS_RECIPE = """\
# English numbers, dates and times in words -> German.
name = "numbers"
out = {run}

[data]
kind = "pairs"
train = [{train}]
dev = [{dev}]
source = "en"
target = "de"

[text]
kind = "sentencepiece"
size = 400

[model]
kind = "transformer"
width = 128
encoder_layers = 2
decoder_layers = 2
heads = 4
feed_forward = 512
dropout = 0.1

[train]
minutes = 1.2
batch_tokens = 1024
learning_rate = 2e-3
schedule = {{ kind = "linear", warmup = 50, hold = 0.3 }}
label_smoothing = 0.0
metric = "chrf"
target = 99.5
"""

REVERSE_RECIPE = """\
# Letters -> the same letters backwards.
name = "reverse"
out = {run}

[data]
kind = "pairs"
train = [{train}]
dev = [{dev}]
source = "word"
target = "backwards"

[text]
kind = "words"
split = "spaces"

[model]
kind = "recurrent"
cell = "gru"
width = 128
embedding = 64
attention = "additive"
dropout = 0.0

[train]
minutes = 1
batch_tokens = 2048
learning_rate = 5e-3
schedule = {{ kind = "linear", warmup = 50, hold = 0.3 }}
label_smoothing = 0.0
target = 99.0
"""


def numbers(count: int, *, seed: int) -> list[SentencePair]:
    """`count` pairs of an English number, date or time and its German translation, with distinct sources.

    A quarter of the sources is in lower case, as people type them. Sources differ even if case is ignored, and a
    smaller `count` gives a prefix of the list of a larger one. Raises ConfigError for a count below 0 or above 100,000.
    """
    shapes = (_cardinal, _full_date, _plain_date, _ordinal_date, _clock)

    def draw(random: Random) -> SentencePair:
        (shape,) = random.choices(shapes, weights=(50, 20, 14, 6, 10))
        source, target = shape(random)
        return (source.lower() if random.random() < 0.25 else source), target

    return _distinct(draw, count, seed=seed)


def reverse(count: int, *, seed: int) -> list[SentencePair]:
    """`count` pairs of a random word of 3 to 10 letters and its reversal, separated by spaces: `h a t`, `t a h`.

    Sources are distinct. Raises ConfigError for a count below 0 or above 100,000.
    """

    def draw(random: Random) -> SentencePair:
        letters = random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(3, 10))
        return " ".join(letters), " ".join(reversed(letters))

    return _distinct(draw, count, seed=seed)


def _distinct(draw: Callable[[Random], SentencePair], count: int, *, seed: int) -> list[SentencePair]:
    if not 0 <= count <= LARGEST_CORPUS:
        raise ConfigError(f"cannot make {count:,} pairs", f"ask for 0 to {LARGEST_CORPUS:,}")
    random = Random(seed)
    pairs: dict[str, SentencePair] = {}
    while len(pairs) < count:
        pair = draw(random)
        pairs.setdefault(pair[0].lower(), pair)
    return list(pairs.values())


def _cardinal(random: Random) -> SentencePair:
    (digits,) = random.choices((1, 2, 3, 4, 5, 6), weights=(1, 3, 10, 5, 3, 2))
    number = random.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
    return english(number), german(number)


def _random_date(random: Random) -> date:
    return date.fromordinal(random.randint(date(1900, 1, 1).toordinal(), date(2099, 12, 31).toordinal()))


def _numeral(number: int) -> str:
    """An English ordinal in digits: `5th`, `21st`, `12th`."""
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _full_date(random: Random) -> SentencePair:
    day = _random_date(random)
    month, weekday = day.month - 1, day.weekday()
    source = f"the {_numeral(day.day)} of {ENGLISH_MONTHS[month]} {day.year}, a {ENGLISH_DAYS[weekday]}"
    return source, f"{GERMAN_DAYS[weekday]}, der {day.day}. {GERMAN_MONTHS[month]} {day.year}"


def _plain_date(random: Random) -> SentencePair:
    day = _random_date(random)
    year = random.choice(("", f" {day.year}"))
    the, der = random.choice((("the", "der"), ("on the", "am")))
    source = f"{the} {_numeral(day.day)} of {ENGLISH_MONTHS[day.month - 1]}{year}"
    return source, f"{der} {day.day}. {GERMAN_MONTHS[day.month - 1]}{year}"


def _ordinal_date(random: Random) -> SentencePair:
    day = _random_date(random)
    the, der, ending = random.choice((("the", "der", "e"), ("on the", "am", "en")))
    source = f"{the} {english_ordinal(day.day)} of {ENGLISH_MONTHS[day.month - 1]}"
    return source, f"{der} {german_ordinal(day.day)}{ending} {GERMAN_MONTHS[day.month - 1]}"


def _clock(random: Random) -> SentencePair:
    source, target = _time(random.randint(1, 12), random.randrange(0, 60, 5))
    weekday = random.randrange(7)
    prefixes = ("", ""), ("at ", "um "), (f"on {ENGLISH_DAYS[weekday]} at ", f"am {GERMAN_DAYS[weekday]} um ")
    (at, um), *_ = random.choices(prefixes, weights=(1, 1, 4))
    return at + source, um + target


def _time(hour: int, minute: int) -> SentencePair:
    """A time of the 12-hour clock in English and German, where half past three is `halb vier`, half of the fourth."""
    following = hour % 12 + 1
    if minute == 0:
        return f"{english(hour)} o'clock", f"{'ein' if hour == 1 else german(hour)} Uhr"
    if minute == 30:
        return f"half past {english(hour)}", f"halb {german(following)}"
    past, nach, reference, distance = (
        ("past", "nach", hour, minute) if minute < 30 else ("to", "vor", following, 60 - minute)
    )
    quarter, viertel = ("quarter", "Viertel") if distance == 15 else (english(distance), german(distance))
    return f"{quarter} {past} {english(reference)}", f"{viertel} {nach} {german(reference)}"


def split(
    pairs: Sequence[SentencePair], *, dev: int, test: int, seed: int
) -> tuple[list[SentencePair], list[SentencePair], list[SentencePair]]:
    """Split pairs into train, dev and test set by their source, so that no source is in two of the three.

    `dev` and `test` are numbers of distinct sources; all pairs of a source are in the same set, in their order. Raises
    DataError when no source is left for the training set.
    """
    sources = list(dict.fromkeys(source for source, _ in pairs))
    if len(sources) <= dev + test:
        raise DataError(
            f"{len(sources):,} different sources are too few to set {dev + test:,} of them apart for dev and test",
            "use more text, or a smaller dev and test set",
        )
    Random(seed).shuffle(sources)
    dev_sources, test_sources = set(sources[:dev]), set(sources[dev : dev + test])
    return (
        [pair for pair in pairs if pair[0] not in dev_sources and pair[0] not in test_sources],
        [pair for pair in pairs if pair[0] in dev_sources],
        [pair for pair in pairs if pair[0] in test_sources],
    )


def write(folder: str | Path, task: DemoTask, *, seed: int = 1, overwrite: bool = False) -> list[Path]:
    """Write `train.tsv`, `dev.tsv`, `test.tsv` and `recipe.toml` to `folder`.

    The files contain 8000, 200 and 500 pairs or, for `labels`, 4000, 300 and 500 sentences with a token and its label
    on each line. The recipe names the files relative to the working directory, and the run `folder/run`. If one of the
    files exists with other content, ConfigError is raised before anything is written, unless `overwrite`.
    """
    folder = Path(folder)
    recipe = {"numbers": NUMBERS_RECIPE, "reverse": REVERSE_RECIPE, "labels": labels.RECIPE}[task]
    splits = zip(("train", "dev", "test"), _splits(task, seed), strict=True)
    contents = {folder / f"{name}.tsv": content for name, content in splits}
    contents[folder / "recipe.toml"] = recipe.format(
        run=_quoted(folder / "run"), train=_quoted(folder / "train.tsv"), dev=_quoted(folder / "dev.tsv")
    ).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            if not overwrite and path.exists() and path.read_bytes() != content:
                raise ConfigError(f"{path} exists and differs", "--overwrite replaces it; or choose another folder")
        for path, content in contents.items():
            replace_file(path, content)
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror}", "choose another folder") from None
    return list(contents)


def _splits(task: DemoTask, seed: int) -> list[bytes]:
    """The contents of the files of train, dev and test set."""
    if task == "labels":
        return [text.dump() for text in labels.splits(seed=seed)]
    pairs = {"numbers": numbers, "reverse": reverse}[task](TRAIN + DEV + TEST, seed=seed)
    return [_tsv(subset) for subset in split(pairs, dev=DEV, test=TEST, seed=seed)]


def _tsv(pairs: Sequence[SentencePair]) -> bytes:
    return "".join(f"{source}\t{target}\n" for source, target in pairs).encode()


def _quoted(path: Path) -> str:
    """A path as a TOML string: the escapes of JSON are valid in TOML, which also requires DEL to be escaped."""
    text = path.as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError("the folder's name is not UTF-8, and a recipe must name it", "choose another name") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
