"""Every kind and option of model, tiny: a new one adds one line to `MODELS` and inherits every law."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.models.build import Sizes, build
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.search.hypothesis import BOS, EOS
from seqkit.settings import Mixed, Model, Plain, Recurrent, Transformer
from seqkit.state import Decodable, map_state, select

SOURCE, TARGET = 11, 9  # tokens in the two vocabularies, so that mistaking one for the other shows
FIRST = EOS + 1  # the lowest id that stands for text

transformer = partial(
    Transformer, width=8, heads=2, feed_forward=12, encoder_layers=1, decoder_layers=2, tied="output", dropout=0.0
)
recurrent = partial(Recurrent, width=7, embedding=6, tied="output", dropout=0.0)
plain = partial(Plain, width=6, embedding=5, tied="none", dropout=0.0)
mixed = partial(Mixed, width=8, heads=2, feed_forward=12, encoder_layers=2, tied="none", dropout=0.0)

MODELS: dict[str, Model] = {
    "transformer-pre": transformer(),
    "transformer-post": transformer(norm="post"),
    "transformer-learned": transformer(positions="learned", maximum_positions=64),
    "transformer-rotary": transformer(positions="rotary", heads=1),
    "transformer-gelu": transformer(activation="gelu", tied="none", encoder_layers=2),
    "transformer-swiglu": transformer(activation="swiglu", norm="post", positions="rotary"),
    "transformer-tied": transformer(tied="all"),
    "rnn-additive": recurrent(cell="rnn", attention="additive"),
    "rnn-dot-feeding": recurrent(cell="rnn", attention="dot", input_feeding=True, decoder_layers=2),
    "rnn-bilinear-deep": recurrent(cell="rnn", attention="bilinear", bidirectional=False, encoder_layers=2),
    "gru-additive-feeding": recurrent(cell="gru", attention="additive", input_feeding=True),
    "gru-dot-deep": recurrent(cell="gru", attention="dot", encoder_layers=2, decoder_layers=2, tied="none"),
    "gru-bilinear": recurrent(cell="gru", attention="bilinear", bidirectional=False),
    "lstm-additive-deep": recurrent(cell="lstm", attention="additive", encoder_layers=2, decoder_layers=2),
    "lstm-dot-ahead": recurrent(cell="lstm", attention="dot", bidirectional=False, tied="all"),
    "lstm-bilinear-feeding": recurrent(cell="lstm", attention="bilinear", input_feeding=True, decoder_layers=2),
    "plain-rnn": plain(cell="rnn"),
    "plain-rnn-deep": plain(cell="rnn", layers=2),
    "plain-gru": plain(cell="gru", tied="output"),
    "plain-gru-deep": plain(cell="gru", layers=2),
    "plain-lstm": plain(cell="lstm", tied="all"),
    "plain-lstm-deep": plain(cell="lstm", layers=2),
    "mixed-lstm": mixed(cell="lstm"),
    "mixed-gru-feeding": mixed(cell="gru", attention="additive", input_feeding=True, tied="output"),
}

TRANSFORMERS = {name: settings for name, settings in MODELS.items() if isinstance(settings, Transformer)}
RECURRENT = {name: settings for name, settings in MODELS.items() if isinstance(settings, Recurrent | Plain)}

every_model = pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
every_transformer = pytest.mark.parametrize("settings", TRANSFORMERS.values(), ids=TRANSFORMERS)

# In float64 a difference of this size is a mistake, not rounding.
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def make(
    settings: Model, *, seed: int = 0, target: int = TARGET, dtype: torch.dtype = torch.float64, noise: float = 0.2
) -> EncoderDecoder:
    """A model in evaluation mode. Noise on every weight: biases begin at zero, where mistakes with them do not show."""
    torch.manual_seed(seed)
    joint = settings.tied == "all"
    model = build(settings, Sizes(target if joint else SOURCE, target, joint))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.to(dtype).eval()


def sources(*lengths: int, size: int = TARGET, seed: int = 1) -> Padded:
    """Random sources of so many tokens, `</s>` included, right-padded: (B, S)."""
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.randint(FIRST, size, (length - 1,), generator=generator).tolist() for length in lengths)
    return pad([[*row, EOS] for row in rows])


def tokens(rows: int, length: int, *, size: int = TARGET, seed: int = 2) -> Tensor:
    """What a decoder reads: `<s>` and random tokens, (N, T)."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST, size, (rows, length), generator=generator)
    ids[:, 0] = BOS
    return ids


def logits(model: Decodable, source: Padded, ids: Tensor, *cuts: int) -> Tensor:
    """The logits of ids (N, T), read in pieces that end before the `cuts`: (N, T, V)."""
    memory, state = model.start(source)
    if len(ids) > len(source.ids) and state is not None:
        state = select(state, torch.arange(len(source.ids)).repeat_interleave(len(ids) // len(source.ids)))
    pieces = []
    for piece in ids.tensor_split(cuts, dim=1):
        out, state = model.advance(piece, memory, state)
        state = map_state(Tensor.clone, state)
        pieces.append(out)
    return torch.cat(pieces, dim=1)
