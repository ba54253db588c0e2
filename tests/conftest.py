"""Settings of the whole suite: repeatable property tests, and how hard the hard tests try."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A run is the same every time, however slow the machine; `--hypothesis-profile=explore` looks further.
# Whole collections are large examples: Hypothesis drops those that outgrow its buffer: no fault here.
NO_FAULTS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=NO_FAULTS)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what commands cache out of the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-rounds", type=int, default=4, help="how often a backup or prune is killed at a random moment"
    )
