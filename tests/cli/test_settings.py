from __future__ import annotations

import random
import socket
from pathlib import Path

import msgspec
import pytest

from recollect import wiring
from recollect.clock import ManualClock
from recollect.errors import AccessError, NotFoundError, RecollectError, RequestError
from recollect.policy.duration import Duration
from recollect.settings import Flags, Settings, load_settings, read_secret


def load(tmp_path: Path, *, flags: Flags | None = None, toml: str = "", **variables: str) -> Settings:
    """Load settings as in a home directory that has only this configuration."""
    config = tmp_path / ".config" / "recollect" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(toml, "utf-8")
    return load_settings(flags or Flags(), {"HOME": str(tmp_path), **variables})


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    toml = 'repository = "/from-file"\nsource = "edge:///file"\n'

    everywhere = load(tmp_path, flags=Flags(repository="/flag"), toml=toml, RECOLLECT_REPOSITORY="/variable")
    variable = load(tmp_path, toml=toml, RECOLLECT_REPOSITORY="/variable")
    file = load(tmp_path, toml=toml)

    assert [s.repository for s in (everywhere, variable, file)] == ["/flag", "/variable", "/from-file"]
    assert everywhere.origins["repository"] == "--repo"
    assert variable.origins["repository"] == "RECOLLECT_REPOSITORY"
    assert file.origins["repository"].endswith("config.toml")


def test_nothing_set_is_no_error_until_a_repository_is_needed(tmp_path: Path) -> None:
    settings = load(tmp_path)

    assert settings.host == socket.gethostname()
    with pytest.raises(RequestError, match="no repository is named") as caught:
        settings.require_repository()
    assert "RECOLLECT_REPOSITORY" in caught.value.next_step


def test_the_repository_can_come_from_a_file_or_a_command(tmp_path: Path) -> None:
    named = tmp_path / "repository"
    named.write_text("s3://bucket/prefix\n", "utf-8")

    assert load(tmp_path, RECOLLECT_REPOSITORY_FILE=str(named)).repository == "s3://bucket/prefix"
    assert load(tmp_path, flags=Flags(repository_file=str(named))).repository == "s3://bucket/prefix"
    command = f"cat {named}"
    assert load(tmp_path, RECOLLECT_REPOSITORY_COMMAND=command).repository == "s3://bucket/prefix"


def test_a_repository_given_twice_in_one_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="given twice"):
        load(tmp_path, RECOLLECT_REPOSITORY="/a", RECOLLECT_REPOSITORY_FILE="/b")


def test_variables_that_users_name_themselves_are_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, RECOLLECT_QDRANT_API_KEY="x", RECOLLECT_HOST="h").host == "h"


def test_a_misspelt_variable_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="RECOLLECT_REPOSITRY") as caught:
        load(tmp_path, RECOLLECT_REPOSITRY="/a")

    assert caught.value.next_step == "did you mean RECOLLECT_REPOSITORY?"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('repositry = "/a"', "repositry"),
        ("repository = 3", "Expected `str`"),
        ("repository = ", "not valid TOML"),
        ("[retention]\nkeep_dayly = 3", "keep_dayly"),
        ('[retention]\nkeep_daily = "3"', "Expected `int`"),
        ('[retention]\nkeep_within = "3 weeks"', "not a duration"),
    ],
)
def test_a_bad_settings_file_is_refused_naming_the_place(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load(tmp_path, toml=toml)


def test_retention_can_stand_in_the_file(tmp_path: Path) -> None:
    rules = load(
        tmp_path, toml='[retention]\nkeep_daily = 7\nkeep_within = "1m"\nkeep_tags = ["pin"]'
    ).retention

    assert rules is not None
    assert (rules.keep_daily, rules.keep_within, rules.keep_tags) == (7, Duration(months=1), ("pin",))


def test_a_named_settings_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.toml"):
        load(tmp_path, flags=Flags(config=str(tmp_path / "absent.toml")))


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_waiting_time_must_be_a_number_of_seconds(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError, match="WAIT_SECONDS"):
        load(tmp_path, RECOLLECT_WAIT_SECONDS=text)


def test_a_secret_comes_from_the_variable_its_file_or_its_command(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cr3t\n", "utf-8")

    assert read_secret("KEY", {"KEY": "s3cr3t"}) == "s3cr3t"
    assert read_secret("KEY", {"KEY_FILE": str(key)}) == "s3cr3t"
    assert read_secret("KEY", {"KEY_COMMAND": f"cat '{key}'"}) == "s3cr3t"
    assert read_secret("KEY", {}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"KEY": "s3cr3t", "KEY_FILE": "/x"},
        {"KEY_FILE": "/does/not/exist"},
        {"KEY_COMMAND": "sh -c 'echo s3cr3t; exit 3'"},
        {"KEY_COMMAND": "no-such-command-at-all"},
        {"KEY_COMMAND": "printf 's3cr3t\\ns3cr3t'"},
        {"KEY_COMMAND": "'unbalanced s3cr3t"},
        {"KEY_COMMAND": "true"},
    ],
)
def test_a_secret_that_cannot_be_had_is_an_error_that_does_not_show_it(environment: dict[str, str]) -> None:
    with pytest.raises(RecollectError) as caught:
        read_secret("KEY", environment)

    assert isinstance(caught.value, RequestError | AccessError)
    assert "s3cr3t" not in str(caught.value) + caught.value.next_step


def test_a_command_runs_without_a_shell() -> None:
    assert read_secret("KEY", {"KEY_COMMAND": "echo $HOME; id"}) == "$HOME; id"


def test_a_limit_of_bytes_a_second_slows_the_repository_down(tmp_path: Path) -> None:
    settings = load(tmp_path, RECOLLECT_BYTES_PER_SECOND_MAX="1000000")

    assert settings.bytes_per_second_max == 1_000_000
    clock = ManualClock()
    context = wiring.Context(clock=clock, random_bytes=random.Random(1).randbytes)
    repository = wiring.create_repository(str(tmp_path / "repository"), context)
    limited = msgspec.structs.replace(context, bytes_per_second_max=settings.bytes_per_second_max)
    began = clock.monotonic()

    wiring.open_repository(repository.url, limited).put_object(bytes(5_000_000))

    assert clock.monotonic() - began >= 3
