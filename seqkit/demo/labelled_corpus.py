"""A generated corpus for sequence labelling: sentences with persons, places, dates and sums of money.

    Florence left Paris for Victoria in May .          B-PER O B-LOC O B-LOC O B-DATE O
    Victoria left May 20 pounds .                      B-PER O B-PER B-MONEY I-MONEY O
    May paid 9 euros for 20 pounds of flour .          B-PER O B-MONEY I-MONEY O O O O O O

Half of the names are used for both persons and places, one in six is invented for its sentence, some are months too,
and a number may be a year, a sum or a count: a word by itself does not determine its label, but its context always
does.
"""

# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

from random import Random

from seqkit.data.labelled_text import LabelledText
from seqkit.demo.spelling import english
from seqkit.errors import ConfigError

__all__ = ["RECIPE", "sentences", "splits"]

LARGEST_CORPUS = 100_000  # sentences; far more distinct ones exist, so that few draws are duplicates
TRAIN, DEV, TEST = 4000, 300, 500  # sentences in each split

# Names of both persons and places.
SHARED = (
    "Adelaide Alexandria Austin Carolina Charlotte Chelsea Chester Devon Florence Georgia Hamilton Houston Jackson "
    "Jordan Kent Lincoln London Lourdes Madison Milan Paris Santiago Savannah Sidney Sofia Valencia Victoria Vienna "
    "Virginia Wellington"
).split()
PLACES = (
    "Berlin Bergen Bristol Cairo Delhi Dublin Geneva Hamburg Kyoto Leeds Lima Lisbon Nairobi Oslo Prague Quito Riga "
    "Seville Tunis York"
).split()
FIRST_NAMES = (
    "Alice Amir Anna Carlos Clara Daniel Elena Erik Fatima Grace Hugo Irene Ivan June Karim Laura April Mark May Nina "
    "August Oscar Peter Rosa Simon Tariq Will Yuki"
).split()
SURNAMES = "Baker Costa Dubois Fischer Green Hill Ivanova Khan Lake Marsh Novak Park Rossi Silva Tanaka Woods".split()
TITLES = "Dr Mr Mrs Ms Professor".split()
PREFIXES = "East Fort Lake Mount New North Port San South West".split()  # of places with two words
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
CURRENCIES = "crowns dollars euros francs pounds".split()
BEGINNINGS = "Bel Cal Dor Elm Fen Gar Hal Kel Lor Mar Nor Orm Pel Rad Sel Tor Ul Ver Wes Zan".split()
MIDDLES = "a an ar e el en er i in o or u".split()
ENDINGS = "by dale den don ford ham land ley low mer ney rick son sted ton wick wood wyn".split()

# Words in capitals are slots; AT is a date after "on", WHEN one after "in", and a NUMBER has no label.
TEMPLATES = [
    template.split()
    for template in """\
PER met PER in LOC on AT .
PER was born in LOC in WHEN .
PER moved from LOC to LOC in WHEN .
PER left LOC for LOC on AT .
PER left PER MONEY .
PER gave PER NUMBER pounds of sugar .
PER gave PER MONEY .
PER bought NUMBER pounds of flour for MONEY in LOC .
PER paid MONEY for NUMBER pounds of flour .
PER 's brother lives in LOC .
LOC 's mayor met PER on AT .
LOC is NUMBER miles from LOC .
PER is NUMBER years older than PER .
PER was ill in WHEN .
LOC was flooded in WHEN .
On AT , PER flew over LOC .
In WHEN , LOC had NUMBER schools .
In WHEN , PER had NUMBER cousins .
In LOC , PER found MONEY .
Will PER visit LOC on AT ?
May we stay with PER in LOC until AT ?
The train from LOC to LOC costs MONEY .
The road to LOC is NUMBER miles long .
The letter to PER is NUMBER pages long .
PER , PER and PER are waiting in the garden .
LOC , LOC and LOC are towns in the north .
A ship from LOC reached LOC after NUMBER days .
A letter from PER reached LOC after NUMBER days .
MONEY were stolen from PER on AT .
MONEY were spent on a bridge in LOC .
NUMBER people live in LOC .
NUMBER friends of PER came to LOC in WHEN .
Nobody in LOC knows PER .
Ask PER for MONEY .
See LOC in WHEN .
PER , born in WHEN , grew up near LOC .""".split("\n")
]

RECIPE = """\
# Persons, places, dates and sums of money, found in sentences.
name = "labels"
out = {run}

[data]
kind = "labelled"
train = [{train}]
dev = [{dev}]

[text]
kind = "words"
split = "spaces"
joint = false
minimum_count = 2

[model]
kind = "recurrent_labeller"
width = 128
embedding = 64
dropout = 0.3

[train]
epochs = 8
batch_tokens = 1024
learning_rate = 5e-3
schedule = {{ kind = "linear", warmup = 20 }}
"""

LabelledTokens = list[tuple[str, str]]  # (token, label)


def sentences(count: int, *, seed: int) -> LabelledText:
    """`count` distinct sentences, labelled in the IOB2 scheme with PER, LOC, DATE and MONEY.

    A smaller `count` gives a prefix of the text of a larger one. Raises ConfigError for a count below 0 or above
    100,000.
    """
    if not 0 <= count <= LARGEST_CORPUS:
        raise ConfigError(f"cannot make {count:,} sentences", f"ask for 0 to {LARGEST_CORPUS:,}")
    random = Random(seed)
    distinct: dict[tuple[str, ...], list[str]] = {}  # tokens -> labels
    while len(distinct) < count:
        tokens, labels = zip(*_sentence(random), strict=True)
        distinct.setdefault(tokens, list(labels))
    return LabelledText([list(tokens) for tokens in distinct], list(distinct.values()))


def splits(*, seed: int = 1) -> tuple[LabelledText, LabelledText, LabelledText]:
    """Train, dev and test set: 4000, 300 and 500 sentences, all distinct."""
    corpus = sentences(TRAIN + DEV + TEST, seed=seed)
    bounds = (0, TRAIN, TRAIN + DEV), (TRAIN, TRAIN + DEV, TRAIN + DEV + TEST)
    train, dev, test = (LabelledText(corpus.tokens[i:j], corpus.labels[i:j]) for i, j in zip(*bounds, strict=True))
    return train, dev, test


def _sentence(random: Random) -> LabelledTokens:
    tokens = [token for slot in random.choice(TEMPLATES) for token in _fill(slot, random)]
    first, label = tokens[0]
    return [(first[0].upper() + first[1:], label), *tokens[1:]]


def _fill(slot: str, random: Random) -> LabelledTokens:
    match slot:
        case "PER":
            return _person(random)
        case "LOC":
            prefix = [random.choice(PREFIXES)] if random.random() < 0.2 else []
            return _span("LOC", [*prefix, _name(PLACES, random)])
        case "AT":
            return _span("DATE", _day(random))
        case "WHEN":
            month, year = [random.choice(MONTHS)], [str(random.randint(1920, 2029))]
            return _span("DATE", random.choice((month, year, month + year)))
        case "MONEY":
            return _span("MONEY", _money(random))
        case "NUMBER":
            return [(word, "O") for word in _number(random)]
        case word:
            return [(word, "O")]


def _span(kind: str, words: list[str]) -> LabelledTokens:
    return [(word, f"{'I' if index else 'B'}-{kind}") for index, word in enumerate(words)]


def _person(random: Random) -> LabelledTokens:
    """`Florence`, `Florence Kent`, or `Dr Kent`, whose title is outside of the span."""
    surname = _name(SURNAMES, random)
    if random.random() < 0.15:
        return [(random.choice(TITLES), "O"), *_span("PER", [surname])]
    return _span("PER", [_name(FIRST_NAMES, random), surname][: random.choice((1, 1, 2))])


def _name(unambiguous: list[str], random: Random) -> str:
    """A name from the given list, a name of both persons and places, or an invented name."""
    (names,) = random.choices((unambiguous, SHARED, None), weights=(2, 3, 1))
    if names is not None:
        return random.choice(names)
    return random.choice(BEGINNINGS) + random.choice(MIDDLES) + random.choice(ENDINGS)


def _day(random: Random) -> list[str]:
    """`Monday`, `5 May` or `Monday , 5 May 1987`; weekdays do not match their dates."""
    date = [str(random.randint(1, 28)), random.choice(MONTHS)]
    weekday, year = random.choice(WEEKDAYS), str(random.randint(1920, 2029))
    return random.choice(([weekday], date, [*date, year], [weekday, ",", *date, year]))


def _money(random: Random) -> list[str]:
    if random.random() < 0.2:
        return [random.choice("$£€"), str(_amount(random))]
    return [*_number(random), random.choice(CURRENCIES)]


def _number(random: Random) -> list[str]:
    """A number of at least two, in digits or in words."""
    number = _amount(random)
    return [str(number)] if random.random() < 0.5 else english(number).split()


def _amount(random: Random) -> int:
    """An amount of at least two, of which small ones are more frequent and some look like years."""
    return random.randint(2, random.choice((30, 300, 2050)))
