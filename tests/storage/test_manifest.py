"""A manifest is foreign text: it cannot lead out of its folder, nor bring the reader down."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqkit.errors import ModelError, ResourceError
from seqkit.files import sha256
from seqkit.storage.manifest import check, format_size, publish, read_tensors


def seal(folder: Path) -> Path:
    with publish(folder, facts={"a": 1}, needed=0) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "data").write_text("hello")
    return folder


def claim(folder: Path, name: str) -> None:
    """Let the manifest list one more file, with the size and hash of the file outside."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    secret = folder.parent / "secret"
    manifest["files"].append({"name": name, "size": secret.stat().st_size, "sha256": sha256(secret)})
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    ["../secret", "sub/../../secret", "{absolute}", "link", "linked/secret", "/dev/zero", "x" * 5000, "a\0b", ""],
)
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = seal(tmp_path / "sealed")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    claim(folder, name.format(absolute=tmp_path / "secret"))
    with pytest.raises(ModelError, match="outside of its folder"):
        check(folder)


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    folder = seal(tmp_path / "sealed")
    os.mkfifo(folder / "pipe")
    claim(folder, "pipe")
    with pytest.raises(ModelError, match="not a plain file"):
        check(folder)


def test_sealed_facts_and_names(tmp_path: Path) -> None:
    manifest = check(seal(tmp_path / "sealed"))
    assert manifest.facts == {"a": 1}
    assert manifest.names == {"sub/data"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=50)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.dictionaries(st.sampled_from(["format", "files"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_manifest_is_an_answer_or_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ModelError):
        check(tmp_path)


def test_deep_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b'{"format":1,"seqkit":"","x":' + b"[" * 100_000)
    with pytest.raises(ModelError):
        check(tmp_path)


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    seal(tmp_path / "sealed")

    def interrupted() -> None:
        with publish(tmp_path / "sealed", facts={}, needed=0) as partial:
            (partial / "data").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [entry.name for entry in tmp_path.iterdir()] == ["sealed"]
    assert check(tmp_path / "sealed").names == {"sub/data"}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot save"):
        seal(tmp_path / "file" / "sealed")


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, (2**40).to_bytes(8, "little") + b"{}"])
def test_foreign_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot read"):
        read_tensors(path)


def test_sizes() -> None:
    assert [format_size(count) for count in (0, 999, 12_345, 310_400_000, 2_560_000_000)] == [
        "0 bytes",
        "999 bytes",
        "12.3 kB",
        "310 MB",
        "2.56 GB",
    ]
