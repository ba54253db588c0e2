"""Settings of the whole suite: repeatable property tests, and how hard the hard tests try."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A run is the same every time; `--hypothesis-profile=explore` looks for new examples.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-rounds", type=int, default=4, help="how often a backup or prune is killed at a random moment"
    )
