"""What tests of faults share."""

from __future__ import annotations

import pytest

from tests.support.hostile import Ask


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    return Ask(capsys)
