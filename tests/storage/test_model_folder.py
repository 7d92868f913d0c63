"""A published model stands alone, and is replaced whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.errors import ModelError
from seqkit.storage.model_folder import read_model, write_model


def write(run: Path, value: float) -> Path:
    codec = run / "codec"
    codec.mkdir(exist_ok=True)
    (codec / "vocabulary.txt").write_text("a\nb\n")
    return write_model(
        run / "model",
        recipe='name = "ä"\r\n',
        codec_folder=codec,
        tensors={"w": torch.full((3,), value)},
        facts={"step": 7, "score": 93.2},
    )


def test_stands_alone(tmp_path: Path) -> None:
    moved = write(tmp_path, 1.0).rename(tmp_path / "elsewhere")
    (tmp_path / "codec" / "vocabulary.txt").unlink()
    model = read_model(moved)
    assert model.recipe.strip() == 'name = "ä"'
    assert (model.codec / "vocabulary.txt").read_text() == "a\nb\n"
    assert model.facts == {"step": 7, "score": 93.2}
    assert torch.equal(model.tensors()["w"], torch.ones(3))


def test_replaced_without_debris(tmp_path: Path) -> None:
    write(tmp_path, 1.0)
    (tmp_path / ".model.4242.old").mkdir()
    (tmp_path / "model.tmp").mkdir()
    write(tmp_path, 2.0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["codec", "model"]
    assert torch.equal(read_model(tmp_path / "model").tensors()["w"], torch.full((3,), 2.0))


@pytest.mark.parametrize("name", ["recipe.toml", "codec/vocabulary.txt", "model.safetensors"])
def test_one_wrong_bit_is_found(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, 1.0) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"model/{name} is damaged \(checksum\)"):
        read_model(tmp_path / "model")


def test_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent is not a folder"):
        read_model(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        read_model(tmp_path)
