"""Fixtures of the nvecd face's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nvecd.snapshots import GOLDEN


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that tests write over and over."""
    return tmp_path_factory.mktemp("nvec") / "scratch.nvec"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Where the recordings are."""
    return GOLDEN
