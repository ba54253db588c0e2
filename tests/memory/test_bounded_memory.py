"""The verbs take as much memory for many records as for few."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("measured.py")
SEGMENT_BYTES = 1_000_000  # so small that few records make as many segments as a million otherwise


def peak_mb(directory: Path, records: int, *options: str, dimension: int = 64) -> float:
    """Run the script in a process of its own; returns how far its anonymous memory grew, in MB."""
    directory.mkdir(parents=True)
    command = [sys.executable, str(SCRIPT), "all", str(records), str(dimension), str(directory), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    return float(report["anonymous_mb_peak"] - report["anonymous_mb_at_start"])


def compare(directory: Path, few: int, many: int, *options: str) -> None:
    options = (*options, "--segment-bytes", str(SEGMENT_BYTES))
    small = peak_mb(directory / "few", few, *options)
    large = peak_mb(directory / "many", many, *options)

    added_mb = (many - few) * (64 * 4 + 200) / 1e6
    assert large - small < added_mb / 3, f"{small} MB for {few} records, {large} MB for {many}"


def test_more_records_take_no_more_memory(tmp_path: Path) -> None:
    compare(tmp_path, 40_000, 160_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sorting_more_records_takes_no_more_memory(tmp_path: Path) -> None:
    compare(tmp_path, 200_000, 800_000, "--unordered")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", [[], ["--unordered"]])
def test_a_hundred_thousand_records_of_real_segments_stay_below_the_promise(
    tmp_path: Path, order: list[str]
) -> None:
    """600 MB are promised for a million records of 384 dimensions: these fill the same buffers."""
    assert peak_mb(tmp_path / "r", 150_000, *order, dimension=384) < 600


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("dimension", "payload_bytes"), [(384, 200), (1536, 200), (64, 4000)])
def test_many_rounds_and_their_compaction_stay_below_the_promise(
    tmp_path: Path, dimension: int, payload_bytes: int
) -> None:
    options = ["--turn", "18", "--share", "0.15", "--payload-bytes", str(payload_bytes)]

    assert peak_mb(tmp_path / "r", 60_000, *options, dimension=dimension) < 600
