"""Hugging Face Marian: a Transformer as `transformers.MarianMTModel` reads it.

DIR/   model.safetensors   config.json   generation_config.json   vocab.json and perhaps target_vocab.json
       source.spm, target.spm, tokenizer_config.json: a MarianTokenizer; for other tokenizers our codec/ in their place
       README.txt: how to use it   manifest.json: where it comes from, and a hash of every file
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

from seqkit.batch import pad
from seqkit.errors import ConfigError, ModelError
from seqkit.exchange.marian_files import IDS, configuration, generation, tokenizer_files, weights
from seqkit.exchange.parity import Agreement, Sentences, agreement, sentences_of, verify
from seqkit.exchange.publishing import exportable_model, publishing, unsupported, write_text_layer
from seqkit.exchange.readme import marian_readme
from seqkit.storage.manifest import write_tensors
from seqkit.text.codec import Codecs
from seqkit.text.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS

__all__ = ["export_marian"]

TOOL = "Marian"
SUPPORTED = {"norm": ("post",), "positions": ("sinusoidal",), "activation": ("relu", "gelu")}


def export_marian(run: Path, folder: Path, *, overwrite: bool = False) -> Agreement:
    """Convert the model of a run or model folder for `transformers.MarianMTModel`; returns how well the two agree.

    Raises ConfigError if the model does not fit or the tool is missing, ModelError if the converted model
    differs from ours, ResourceError if the folder cannot be written. After an error there is no folder.
    """
    exportable = exportable_model(run, folder, tool=TOOL, overwrite=overwrite)
    for name, supported in SUPPORTED.items():
        chosen = msgspec.structs.asdict(exportable.settings)[name]
        if chosen not in supported:
            remedy = " or ".join(f'model.{name}="{value}"' for value in supported)
            raise unsupported(f'model.{name} = "{chosen}"', TOOL, remedy)
    tool = _import_tool()
    codecs, sources = exportable.loaded.codecs, sentences_of(exportable.loaded)
    with publishing(folder, exportable) as partial, _silence(tool):
        write_tensors(partial / "model.safetensors", weights(exportable.model), metadata={"format": "pt"})
        contents = {"config.json": configuration(exportable), "generation_config.json": generation(exportable)}
        tokenizer = tokenizer_files(exportable)
        for name, content in {**contents, **tokenizer}.items():
            (partial / name).write_bytes(content)
        result = agreement(exportable.model, _ConvertedModel(tool, partial), sources)
        verify(result, TOOL)
        if tokenizer:
            _check_tokenizer(tool, partial, codecs, sources)
        else:
            write_text_layer(partial, codecs)
        (partial / "README.txt").write_text(marian_readme(exportable, folder.name), encoding="utf-8")
    return result


def _import_tool() -> Any:
    try:
        import transformers
    except ImportError:
        raise ConfigError("exporting to Marian needs transformers", "pip install '.[marian]'") from None
    return transformers


class _ConvertedModel:
    """The converted model as transformers loads it, for sentences of ids."""

    def __init__(self, tool: Any, folder: Path) -> None:
        try:
            self.model, report = tool.MarianMTModel.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError) as error:
            what = f"transformers {tool.__version__} cannot load the converted model: {error}"
            raise ModelError(what, "try a newer one: pip install -U transformers") from None
        if problems := {kind: names for kind, names in report.items() if names}:
            raise ModelError(f"transformers {tool.__version__} finds other weights than it expects: {problems}")
        self.model.eval()
        # In place of the exported settings, which are defaults for what `greedy` does not set.
        self.model.generation_config = tool.GenerationConfig(**IDS, suppress_tokens=[PAD, BOS])

    @torch.no_grad()
    def greedy(self, sources: Sentences, longest: int) -> list[list[int]]:
        """The likeliest token at each step up to `</s>`."""
        batch = pad([[*ids, EOS] for ids in sources])
        output = self.model.generate(
            input_ids=batch.ids,
            attention_mask=batch.mask.long(),
            max_new_tokens=longest,
        )
        rows: list[list[int]] = output[:, 1:].tolist()
        return [row[: row.index(EOS)] if EOS in row else row for row in rows]

    @torch.no_grad()
    def log_probs(self, sources: Sentences, targets: Sentences) -> list[list[float]]:
        """The log-probability of each token of each target and of its `</s>`."""
        source = pad([[*ids, EOS] for ids in sources])
        inputs, outputs = pad([[BOS, *ids] for ids in targets]), pad([[*ids, EOS] for ids in targets])
        logits = self.model(source.ids, attention_mask=source.mask.long(), decoder_input_ids=inputs.ids).logits
        values = logits.log_softmax(-1).gather(2, outputs.ids[:, :, None])[:, :, 0]
        return [row[mask].tolist() for row, mask in zip(values, outputs.mask, strict=True)]


def _check_tokenizer(tool: Any, folder: Path, codecs: Codecs, sources: Sentences) -> None:
    """Raise ModelError unless the tool cuts the sources into the same pieces."""
    tokenizer = tool.MarianTokenizer.from_pretrained(str(folder), local_files_only=True)
    for text in codecs.source.decode_many(sources):
        if text.startswith(">>") or any(token in text for token in SPECIAL_TOKENS):
            continue  # Marian takes them for special tokens, whatever its settings
        ids = codecs.source.encode(text)
        marian_ids = tokenizer(text).input_ids
        if marian_ids != [*ids, EOS]:
            raise ModelError(f"{text!r} is cut by {TOOL} into {marian_ids}, here into {ids}")


@contextlib.contextmanager
def _silence(tool: Any) -> Iterator[None]:
    """Keep the library's progress bars and advice off the terminal."""
    logging = tool.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
