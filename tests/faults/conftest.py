"""What tests of faults share."""

from __future__ import annotations

import pytest
from hostile_toys import Ask


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    return Ask(capsys)
