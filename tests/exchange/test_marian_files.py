"""A Marian folder's weights, settings and tokenizer say what ours do, in Marian's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seqkit.exchange import marian_files
from seqkit.exchange.marian import export_marian
from seqkit.exchange.publishing import exportable_model
from seqkit.layers.transformer import EncoderLayer
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import load
from seqkit.text.vocabulary import EOS
from tests.support.exports import PIECES, WORDS, Make, Tree, tiny_model

ADVICE = "ignore:Recommended. pip install sacremoses:UserWarning"  # of the tokenizer, wherever it is loaded


SEPARATE: tuple[Tree, Tree] = ({**PIECES, "joint": False}, {"norm": "post", "activation": "relu", "tied": "none"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("run"), text=WORDS, model={"norm": "post"}, dev=True)


@pytest.mark.filterwarnings(ADVICE)
def test_the_tokenizer_cuts_and_joins_as_ours(tiny: Make, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    path = tiny(*SEPARATE)
    export_marian(path, tmp_path / "out")
    codecs = load(path).codecs
    tokenizer = library.MarianTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    for line in ("a cat", "  two   dogs ", "die Katze saß", "Δ 漢字 \U0001f600", "<s> a", "\u2047"):
        assert tokenizer(line).input_ids == [*codecs.source.encode(line), EOS]
        assert tokenizer(text_target=line).input_ids == [*codecs.target.encode(line), EOS]
    ids = codecs.target.encode("die Katze \u6f22")
    assert tokenizer.decode([1, *ids, EOS, 0], skip_special_tokens=True) == "die Katze \u6f22"


def test_channels_are_put_in_another_order_and_none_is_lost(run: Path) -> None:
    model = load(run).model
    assert isinstance(model, EncoderDecoder)
    found = marian_files.weights(model)
    ours = sum(weight.numel() for weight in model.parameters())
    biases = 12 * 6  # those of the keys, which we leave out
    assert sum(tensor.numel() for tensor in found.values()) == ours + biases
    table = model.encoder.embedding.weight
    assert torch.equal(found["model.shared.weight"], torch.cat([table[:, 0::2], table[:, 1::2]], dim=1))


def test_the_configuration_is_that_of_the_model(run: Path, tmp_path: Path) -> None:
    exportable = exportable_model(run, tmp_path / "out", tool="Marian", overwrite=False)
    told = json.loads(marian_files.configuration(exportable))
    settings = exportable.settings
    assert (told["d_model"], told["encoder_layers"], told["decoder_ffn_dim"]) == (12, 2, 20)
    assert told["vocab_size"] == told["decoder_vocab_size"] == len(exportable.loaded.codecs.target)
    assert told["tie_word_embeddings"] == (settings.tied != "none")
    assert (told["bos_token_id"], told["eos_token_id"], told["pad_token_id"]) == (1, 2, 0)
    assert told["max_position_embeddings"] == 512 > exportable.positions


def test_the_search_settings_are_told_in_the_library_s_words(run: Path, tmp_path: Path) -> None:
    exportable = exportable_model(run, tmp_path / "out", tool="Marian", overwrite=False)
    search = exportable.loaded.recipe.search
    told = json.loads(marian_files.generation(exportable))
    assert (told["num_beams"], told["length_penalty"]) == (search.beam, search.length_reward)
    assert told["max_length"] == 1 + search.maximum_length
    assert told["suppress_tokens"] == [0, 1]


def test_only_pieces_have_a_tokenizer_there(run: Path, tiny: Make, tmp_path: Path) -> None:
    words, pieces = (
        exportable_model(path, tmp_path / "out", tool="Marian", overwrite=False) for path in (run, tiny(*SEPARATE))
    )
    assert marian_files.tokenizer_files(words) == {}
    files = marian_files.tokenizer_files(pieces)
    assert sorted(files) == ["source.spm", "target.spm", "target_vocab.json", "tokenizer_config.json", "vocab.json"]
    for name, codec in (("vocab", pieces.loaded.codecs.source), ("target_vocab", pieces.loaded.codecs.target)):
        assert json.loads(files[f"{name}.json"]) == {token: id for id, token in enumerate(codec.vocabulary.tokens)}
    assert json.loads(files["tokenizer_config.json"])["separate_vocabs"] is True


def test_maps_read_and_write_vectors_in_marian_s_order_of_channels(run: Path) -> None:
    """Of a vector in that order they make what ours make of it in our order."""
    model = load(run).model
    assert isinstance(model, EncoderDecoder)
    found = marian_files.weights(model)
    x = torch.randn(3, 12)
    moved = torch.cat([x[:, 0::2], x[:, 1::2]], dim=1)
    layer = next(module for module in model.encoder.modules() if isinstance(module, EncoderLayer))
    name = "model.encoder.layers.0"
    ours = {
        "self_attn.q_proj": layer.attention.query,
        "self_attn.k_proj": layer.attention.key,
        "self_attn.v_proj": layer.attention.value,
        "fc1": layer.feed_forward.inner,
    }
    for part, module in ours.items():
        made = torch.nn.functional.linear(moved, found[f"{name}.{part}.weight"], found[f"{name}.{part}.bias"])
        torch.testing.assert_close(made, module(x), rtol=1e-5, atol=1e-5)
    y = torch.randn(3, 12)
    written = layer.attention.output(y)
    made = torch.nn.functional.linear(
        y, found[f"{name}.self_attn.out_proj.weight"], found[f"{name}.self_attn.out_proj.bias"]
    )
    torch.testing.assert_close(made, torch.cat([written[:, 0::2], written[:, 1::2]], dim=1), rtol=1e-5, atol=1e-5)
