"""Small models for export, each made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.exports import Make, Tree, tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Small models, each made once."""
    made: dict[str, Path] = {}

    def make(text: Tree, model: Tree, *, steps: int = 50) -> Path:
        key = json.dumps([text, model, steps])
        if key not in made:
            made[key] = tiny_model(tmp_path_factory.mktemp("tiny"), text=text, model=model, steps=steps)
        return made[key]

    return make
