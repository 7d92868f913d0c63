"""The README.txt of an exported folder: a program that translates with it, and what differs from seqkit."""

from __future__ import annotations

from seqkit.exchange.publishing import ExportableModel
from seqkit.settings import SentencePiece

__all__ = ["ct2_readme", "marian_readme"]

CT2 = """\
{title} for CTranslate2.

    import ctranslate2
{imports}
    translator = ctranslate2.Translator("{folder}")
{loading}
    lines = ["one line", "another line"]
    found = translator.translate_batch(
        [{encoding} for line in lines],
        beam_size={search.beam},
        length_penalty={search.length_reward},
        patience={patience},
        min_decoding_length={search.minimum_length},
        max_decoding_length={search.maximum_length},
        max_input_length=0,
        suppress_sequences=[["<pad>"], ["<s>"]],
    )
    for translation in found:
        print({decoding})

{text}
</s> is not appended to the source: the translator does that itself.

What this search and that of seqkit call by other names, or do otherwise:
length_penalty is search.length_reward: log-probabilities are divided by the number of tokens, </s> included, to that
power. max_decoding_length is search.maximum_length, </s> included; seqkit stops earlier where the source is short, at
search.maximum_ratio x its tokens + search.maximum_extra. patience is search.patience: both stop when beam_size x
patience translations have ended; with search.patience=0 seqkit stops when nothing better can come, which patience=2
nearly always finds too. Left out, min_decoding_length is 1 and max_input_length cuts lines at 1024 tokens. Here a
translation that was cut at max_decoding_length may come before one that ended. There is no
search.length_normalisation="gnmt".
"""

MARIAN = """\
{title} as a Marian model of Hugging Face transformers.

{imports}
    model = MarianMTModel.from_pretrained("{folder}").eval()
{loading}
    lines = ["one line", "another line"]
{program}

{text}
generation_config.json holds the search settings of the run, and a beam search that ends as that of seqkit does;
translations begin with <s>, not with <pad> as in other Marian models. max_length counts <s> and </s>; seqkit stops
earlier where the source is short, at search.maximum_ratio x its tokens + search.maximum_extra, and never prefers a
translation that was cut to one that ended. There is no search.length_normalisation="gnmt".
"""

TOKENIZER = """\
    batch = tokenizer(lines, return_tensors="pt", padding=True)
    for text in tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True):
        print(text)"""

CODEC = """\
    for line in lines:
        ids = [*codecs.source.encode(line), 2]  # </s>
        print(codecs.target.decode(model.generate(torch.tensor([ids]))[0].tolist()))"""


def ct2_readme(exportable: ExportableModel, folder: str) -> str:
    """How to translate with a folder of that name."""
    search, codecs = exportable.loaded.recipe.search, exportable.loaded.codecs
    if isinstance(codecs.source.settings, SentencePiece):
        names = ("sentencepiece.model",) * 2 if codecs.joint else ("source.spm", "target.spm")
        imports = "    import sentencepiece\n"
        loading = "".join(
            f'    {side} = sentencepiece.SentencePieceProcessor(model_file="{folder}/{name}")\n'
            for side, name in zip(("source", "target"), names, strict=True)
        )
        encoding, decoding = "source.encode(line, out_type=str)", "target.decode(translation.hypotheses[0])"
    else:
        imports, loading = _codec(folder)
        encoding = "codecs.source.tokens(codecs.source.encode(line))"
        decoding = "codecs.target.decode(map(codecs.target.vocabulary.id, translation.hypotheses[0]))"
    return CT2.format(
        title=_title(exportable),
        folder=folder,
        imports=imports,
        loading=loading,
        encoding=encoding,
        decoding=decoding,
        search=search,
        patience=search.patience or 2,
        text=_text(exportable),
    )


def marian_readme(exportable: ExportableModel, folder: str) -> str:
    """How to translate with a folder of that name."""
    title, text = _title(exportable), _text(exportable)
    if isinstance(exportable.loaded.codecs.source.settings, SentencePiece):
        imports = "    from transformers import MarianMTModel, MarianTokenizer\n"
        loading = f'    tokenizer = MarianTokenizer.from_pretrained("{folder}")\n'
        program = TOKENIZER
        text += (
            "\nMarianTokenizer takes <unk>, <pad> and </s> for special tokens, and >>...<< at the beginning of a line."
        )
    else:
        imports, loading = _codec(folder)
        imports = f"    import torch\n{imports.rstrip()}\n    from transformers import MarianMTModel\n"
        program = CODEC
    return MARIAN.format(title=title, folder=folder, imports=imports, loading=loading, program=program, text=text)


def _codec(folder: str) -> tuple[str, str]:
    imports = "    from pathlib import Path\n\n    from seqkit.text.codec import Codecs\n"
    return imports, f'    codecs = Codecs.load(Path("{folder}/codec"))\n'


def _title(exportable: ExportableModel) -> str:
    data = exportable.data
    return f"{data.source}-{data.target}, a Transformer trained with seqkit ({exportable.loaded.recipe.name}),"


def _text(exportable: ExportableModel) -> str:
    settings = exportable.loaded.codecs.source.settings
    steps = ", ".join(settings.normalise)
    if not steps:
        return "The model was trained on text as it was."
    if not isinstance(settings, SentencePiece):
        return f"The codec also normalises the text ({steps})."
    return f"The text is to be normalised first, as it was in training: {steps} (see seqkit config keys text)."
