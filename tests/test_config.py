"""Recipes: the round trip, overrides, and what is said about mistakes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect, structs

from seqkit import config
from seqkit.config import build, difference, dump, load
from seqkit.errors import ConfigError
from seqkit.settings import (
    SGD,
    AdamW,
    AveragedSGD,
    Labelled,
    LabellerSettings,
    LanguageModelSettings,
    Lines,
    Mixed,
    Model,
    Muon,
    Pairs,
    Recipe,
    Recurrent,
    RecurrentLanguageModel,
    SelfAttention,
    Settings,
    Stream,
    Text,
    Train,
    Transformer,
    TransformerLanguageModel,
    TranslationSettings,
    Words,
    toml,
)
from seqkit.settings.schema import fields, keys, kind_of

MINIMAL = '[data]\ntrain = ["a.en", "a.de"]\n'


def values(kind: inspect.Type) -> SearchStrategy[Any]:
    """Any value of a plain type."""
    match kind:
        case inspect.Metadata(type=inner):
            return values(inner)
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=least, le=most):
            return st.integers(least, 2**63 - 1 if most is None else most)
        case inspect.FloatType(gt=gt, ge=ge, lt=lt, le=le):
            low, high = (gt if ge is None else ge), (lt if le is None else le)
            return st.floats(
                low,
                high,
                exclude_min=gt is not None,
                exclude_max=lt is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case inspect.StrType(min_length=least):
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=least or 0)
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=choices):
            return st.sampled_from(choices)
        case inspect.VarTupleType(item_type=item, min_length=least):
            return st.lists(values(item), min_size=least or 0, max_size=3).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(values, items))
        case inspect.UnionType(types=members):
            return st.one_of(*map(values, members))
        case _:
            raise TypeError(kind)


def structures(settings: type[Settings], **given: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Any value of a settings Struct, but for the parts that are `given`."""
    parts = {
        field.attribute: st.one_of(*map(structures, field.members))
        if field.members
        else values(inspect.type_info(field.annotation))
        for name, field in fields(settings).items()
        if name not in given
    }
    return st.builds(settings, **parts, **given)


def consistent(recipe: Recipe) -> Recipe:
    """The recipe, with what contradicts itself put right."""
    data, model, text, train, search = recipe.data, recipe.model, recipe.text, recipe.train, recipe.search
    if isinstance(model, SelfAttention | Mixed):
        model = structs.replace(model, heads=model.heads % 64 + 1, width=(model.heads % 64 + 1) * 8)
    else:
        train = structs.replace(train, recompute=False)
    if isinstance(model, RecurrentLanguageModel) and model.cell == "mingru":
        model = structs.replace(model, weight_drop=0.0)
    if isinstance(model, TranslationSettings) and model.tied == "all":
        text = structs.replace(text, joint=True)
    if train.metric not in ("auto", "loss"):  # which fit all data
        train = structs.replace(train, metric="auto")
    if isinstance(data, Stream):
        train = structs.replace(train, batch_tokens=max(train.budget, data.window))
        if data.partition == "sequential" and not isinstance(model, RecurrentLanguageModel):
            data = structs.replace(data, partition="random")
        if isinstance(model, TransformerLanguageModel):
            model = structs.replace(model, maximum_positions=max(model.maximum_positions, data.window))
    if isinstance(train.optimizer, AveragedSGD):
        train, data = structs.replace(train, average=0.0), structs.replace(data, dev=data.dev or ("dev",))
    drops = isinstance(model, Transformer | TransformerLanguageModel) and model.layer_drop > 0
    compiled = isinstance(model, SelfAttention) and train.compile is True
    if isinstance(train.optimizer, AveragedSGD | Muon) or drops or compiled:
        train = structs.replace(train, sharded=False)
    if isinstance(data, Labelled):
        text = structs.replace(text, joint=False)
    low, high = sorted((search.minimum_length, search.maximum_length))
    search = structs.replace(search, nbest=min(search.nbest, search.beam), minimum_length=low, maximum_length=high)
    return structs.replace(recipe, data=data, model=model, text=text, train=train, search=search)


FAMILIES = (  # what goes with what
    (Pairs, TranslationSettings, Text),
    (Stream | Lines, LanguageModelSettings, Text),
    (Labelled, LabellerSettings, Words),
)
MODELS = ", ".join(str(kind_of(member)) for member in get_args(Model))


def family(*parts: Any) -> SearchStrategy[Recipe]:
    """Any recipe of such data, models and tokenizers."""
    data, model, text = (st.one_of(*map(structures, get_args(part) or [part])) for part in parts)
    return structures(Recipe, data=data, model=model, text=text).map(consistent)


RECIPES = st.one_of(*(family(*parts) for parts in FAMILIES))


def refused(data: dict[str, Any], *overrides: str, text: str = "") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(data, where="recipe.toml", overrides=overrides, text=text)
    return caught.value


def minimal(*overrides: str) -> Recipe:
    return build(toml.parse(MINIMAL), where="recipe.toml", overrides=overrides, text=MINIMAL)


class TestRoundTrip:
    @given(RECIPES, st.booleans())
    def test_reading_what_was_written_gives_the_same_recipe(self, recipe: Recipe, commented: bool) -> None:
        written = dump(recipe, commented=commented)
        assert build(toml.parse(written), where="") == recipe

    def test_the_same_through_a_file(self, tmp_path: Path) -> None:
        recipe = Recipe(data=Pairs(train=("ü.tsv",)), model=Recurrent(), train=Train(clip=None, optimizer=Muon()))
        path = tmp_path / "recipe.toml"
        path.write_text("\ufeff" + dump(recipe).replace("\n", "\r\n"), encoding="utf-8", newline="")
        assert load(path) == recipe

    @given(RECIPES)
    def test_comments_do_not_change_the_meaning(self, recipe: Recipe) -> None:
        assert toml.parse(dump(recipe)) == toml.parse(dump(recipe, commented=False))

    def test_defaults_are_marked_and_other_values_are_not(self) -> None:
        lines = dump(minimal("train.keep=7")).splitlines()
        assert "keep = 7" in lines
        assert "accumulate = 1  # default" in lines
        assert "# steps is not set" in lines

    def test_every_key_is_written_with_its_meaning(self) -> None:
        recipe = minimal()
        written = dump(recipe)
        for name, field in fields(type(recipe.train)).items():
            assert f"{name} = " in written or f"# {name} is not set" in written or f"[train.{name}]" in written
            if not field.members:
                assert f"# {field.description}\n" in written

    def test_a_section_that_is_left_out_is_its_kind_with_nothing_changed(self) -> None:
        for field in fields(Recipe).values():
            if isinstance(field.default, Settings):
                assert field.default == type(field.default)()


class TestDifference:
    @given(RECIPES, RECIPES)
    def test_it_is_empty_only_for_equal_recipes(self, one: Recipe, other: Recipe) -> None:
        assert difference(one, one) == []
        assert bool(difference(one, other)) == (one != other)

    def test_it_names_path_and_both_values(self) -> None:
        one, other = minimal("train.optimizer=sgd"), minimal("train.steps=5")
        assert difference(one, other) == [
            ("train.steps", None, 5),
            ("train.optimizer.kind", "sgd", "adamw"),
            ("train.optimizer.momentum", 0.0, None),
            ("train.optimizer.weight_decay", 0.0, 0.01),
            ("train.optimizer.betas", None, (0.9, 0.98)),
        ]


class TestOverrides:
    def test_values_are_toml_and_bare_words_are_text(self) -> None:
        recipe = minimal("train.learning_rate=3e-4", "name=first run", 'out="a b"', "text.byte_fallback=false")
        assert recipe.train.learning_rate == 3e-4
        assert (recipe.name, recipe.out) == ("first run", "a b")
        assert recipe.text == structs.replace(recipe.text, byte_fallback=False)

    @pytest.mark.parametrize("written", ["[x.en, x.de]", '["x.en", "x.de"]', "[x.en,x.de,]"])
    def test_a_list_may_hold_bare_words(self, written: str) -> None:
        assert minimal(f"data.train={written}").data.train == ("x.en", "x.de")

    def test_an_integer_will_do_for_a_number(self) -> None:
        rate = minimal("train.learning_rate=1").train.learning_rate
        assert rate == 1.0
        assert isinstance(rate, float)

    def test_none_takes_an_optional_value_away(self) -> None:
        assert minimal("train.clip=none").train.clip is None

    def test_a_kind_may_stand_for_its_table(self) -> None:
        assert minimal("train.optimizer=muon", "train.optimizer.rate=0.5").train.optimizer == Muon(rate=0.5)
        assert minimal("model=recurrent").model == Recurrent()
        assert build({"data": {"train": ["a"]}, "train": {"optimizer": "sgd"}}, where="").train.optimizer == SGD()

    def test_the_last_of_two_wins(self) -> None:
        assert minimal("train.keep=1", "train.keep=2").train.keep == 2

    def test_a_new_kind_drops_defaults_but_not_what_the_file_says(self) -> None:
        assert minimal("model.kind=recurrent").model == Recurrent()
        data = {"data": {"train": ["a"]}, "model": {"heads": 2}}
        error = refused(data, "model.kind=recurrent")
        assert error.what == "unknown setting model.heads (recipe.toml)"
        assert (
            error.hint
            == "kind recurrent has none; transformer, mixed, transformer_language_model, transformer_labeller have one"
        )

    def test_the_data_are_not_changed(self) -> None:
        data = {"data": {"train": ["a"]}, "train": {"optimizer": {"kind": "adamw"}}}
        build(data, where="", overrides=["train.optimizer.weight_decay=0.5"])
        assert data == {"data": {"train": ["a"]}, "train": {"optimizer": {"kind": "adamw"}}}

    def test_a_mistake_is_placed_on_the_command_line(self) -> None:
        assert refused({"data": {"train": ["a"]}}, "search.beam=0").what.endswith("not 0 (command line)")

    @pytest.mark.parametrize("word", ["beam", "=3", "search..beam=3", "." * 100 + "=1", "name=\udcff"])
    def test_what_is_no_setting_is_refused(self, word: str) -> None:
        assert refused({"data": {"train": ["a"]}}, word).hint

    @given(st.text(), st.text())
    def test_any_word_is_taken_or_refused_in_our_words(self, name: str, value: str) -> None:
        with suppress(ConfigError):
            minimal(f"{name}={value}")

    def test_a_value_cannot_bring_further_keys(self) -> None:
        assert minimal("name=1\nout = 2").name == "1\nout = 2"


class TestMistakes:
    def test_an_unknown_setting_has_its_line_and_the_nearest_name(self) -> None:
        text = MINIMAL + "\n[model] # comment\n\nencoder_layer = 3\n"
        error = refused(toml.parse(text), text=text)
        assert error.what == "unknown setting model.encoder_layer (recipe.toml line 6)"
        assert error.hint == "did you mean model.encoder_layers?"

    def test_a_language_model_that_reads_both_ways_is_refused_with_the_reason(self) -> None:
        text = (
            'data = {kind = "stream", train = ["x"]}\nmodel = {kind = "recurrent_language_model", bidirectional = true}'
        )
        with pytest.raises(ConfigError, match=r"model\.bidirectional") as caught:
            config.read(text, where="recipe.toml")
        assert "recurrent_labeller" in str(caught.value)

    def test_all_mistakes_are_told_at_once(self) -> None:
        text = (
            '[data]\ntrian = "a"\n[model]\nkind = "transformr"\n[train]\nsteps = "many"\nkeep = 0\nmetric = "bleh"\n'
            "clip = -1\noptimizer = { kind = 'adam', beta = 1 }\n[serch]\nbeam = 2\n[text]\nnormalise = ['nfk']\n"
        )
        first, *rest = refused(toml.parse(text), text=text).what.split("\n")
        assert first == "9 mistakes in the settings"
        assert [line.strip().replace("recipe.toml line ", "") for line in rest] == [
            "unknown setting data.trian (2): did you mean data.train?",
            f'unknown model.kind "transformr" (4): did you mean transformer? kinds: {MODELS}',
            'train.steps must be an integer >= 0 or none, not "many" (6): stop after this many optimizer steps',
            "train.keep must be an integer >= 1, not 0 (7): checkpoints kept, besides the best",
            'train.metric must be one of accuracy, auto, bleu, chrf, f1, loss, not "bleh" (8): did you mean bleu?',
            "train.clip must be a number > 0 or none, not -1 (9): scale gradients down to this norm",
            "unknown setting train.optimizer.beta (10): did you mean train.optimizer.betas?",
            "unknown setting serch (11): did you mean search?",
            'text.normalise must be a list of lower, nfc, nfkc, quotes, spaces, not ["nfk"] (14): did you mean nfkc?',
        ]

    def test_very_many_mistakes_are_counted(self) -> None:
        what = refused({"data": {"train": ["a"]}, "train": {f"zzz{n}": 0 for n in range(100_000)}}).what
        assert what.startswith("100000 mistakes")
        assert what.endswith("and 99980 more")

    def test_each_key_misspelt_by_a_letter_is_recognised(self) -> None:
        for section, kind in {(key.path.rpartition(".")[0], key.kind): None for key in keys()}:
            below = [key for key in keys() if key.path.startswith(f"{section}." if section else "")]
            names = {
                key.path[len(section) :].lstrip(".").partition(".")[0] for key in below if kind in (key.kind, None)
            }
            meant: dict[str, set[str]] = {}  # which names a misspelt one may stand for: en- and decoder_layers are near
            for name in names:
                for place in range(len(name)):
                    for wrong in (name[:place] + name[place + 1 :], f"{name[:place]}x{name[place + 1 :]}"):
                        meant.setdefault(wrong, set()).add(f"{section}.{name}".lstrip("."))
            for wrong in meant.keys() - names:
                table: dict[str, Any] = {wrong: 1} if kind is None else {"kind": kind, wrong: 1}
                for part in reversed(section.split(".") if section else []):
                    table = {part: table}
                message = str(refused(table))
                assert any(f"did you mean {path}?" in message for path in meant[wrong]), (section, wrong, message)

    def test_a_setting_in_the_wrong_section_is_recognised(self) -> None:
        for written in ("beam", "bem"):
            assert refused({"data": {"train": ["a"]}, written: 3}).hint == "did you mean search.beam?"

    def test_what_is_missing_is_named(self) -> None:
        error = refused({})
        assert error.what == "data.train is missing (recipe.toml)"
        assert error.hint == fields(Pairs)["train"].description

    @pytest.mark.parametrize("kind", ["os.system", "https://example.org/x", "org/repo", "", 7, None, ["transformer"]])
    def test_a_kind_is_one_of_a_list(self, kind: object) -> None:
        error = refused({"data": {"train": ["a"]}, "model": {"kind": kind}})
        assert error.what.startswith("unknown model.kind")
        assert error.hint == f"kinds: {MODELS}"

    @pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "1" + "0" * 400, "99999999999999999999"])
    @pytest.mark.parametrize("key", ["train.learning_rate", "train.seed", "train.target", "train.optimizer.betas"])
    def test_numbers_are_finite(self, key: str, number: str) -> None:
        value = f"[0.5, {number}]" if key.endswith("betas") else number
        assert refused({"data": {"train": ["a"]}}, f"{key}={value}").what.startswith(f"{key} must be")

    @pytest.mark.parametrize(
        ("word", "hint"),
        [
            ("name=2024", 'text stands in quotes: "2024"'),
            ("data.train=a.tsv", 'a list stands in brackets: ["a.tsv"]'),
            ("train=5", "seqkit config keys lists every setting"),
            ("search.beam=true", "hypotheses kept at each step"),
        ],
    )
    def test_a_wrong_type_says_how_to_write_it(self, word: str, hint: str) -> None:
        assert refused({"data": {"train": ["a"]}}, word).hint == hint

    def test_control_characters_and_long_values_stay_out_of_messages(self) -> None:
        error = refused({"data": {"train": ["a"]}, "train": {"steps": "\x1b[2J" + "x" * 1000}, "\x1b\u202e": 1})
        assert "\x1b" not in error.what
        assert "\u202e" not in error.what
        assert max(map(len, error.what.split("\n"))) < 250

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([key.path for key in keys()]), inner),
            max_leaves=8,
        ),
        st.sampled_from([key.path for key in keys()]),
    )
    def test_any_value_anywhere_is_taken_or_refused_in_our_words(self, value: object, path: str) -> None:
        section, *rest = path.split(".")
        for part in reversed(rest):
            value = {part: value}
        with suppress(ConfigError):
            build({"data": {"train": ["a"]}, section: value}, where="recipe.toml")


class TestFiles:
    def test_a_missing_file_suggests_a_near_one(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.toml").write_text(MINIMAL)
        with pytest.raises(ConfigError, match="does not exist") as caught:
            load(tmp_path / "recpie.toml")
        assert caught.value.hint == f"did you mean {tmp_path / 'recipe.toml'}?"
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        ("content", "place"),
        [
            ("a = 1\nb = word\n", " line 2 is not TOML"),
            ("a = 1\na = 2\n", " line 2 is not TOML"),
            ("[a]\n[b]\n[a]\n", " line 3 is not TOML"),
            ("!!python/object/apply:os.system ['true']", " line 1 is not TOML"),
            ("a = " + "[" * 100_000, " is not TOML: nested too deeply"),
            ("a = " + "{a = " * 100_000, " is not TOML: nested too deeply"),
            ("a" + ".a" * 100_000 + " = 1", " line 1 is not TOML: too many parts"),
            ("[" + "a." * 100_000 + "a]", " line 1 is not TOML: too many parts"),
            ("a = 1" + "0" * 5000, " is not TOML"),
            ("x" * (1 << 21), " is too large"),
            (b"a = 1\nb = '\xff'", " line 2 is not UTF-8"),
        ],
    )
    def test_what_is_no_toml_is_refused_with_its_line(self, tmp_path: Path, content: str | bytes, place: str) -> None:
        path = tmp_path / "recipe.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.what.startswith(f"{path}{place}")
        assert caught.value.hint
        assert "\n" not in caught.value.what

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot read"):
            load(tmp_path)


def test_a_kind_has_one_name() -> None:
    assert kind_of(AdamW) == "adamw"
    assert kind_of(Train) is None
