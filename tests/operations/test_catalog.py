"""Selectors and tags: what users name is what is meant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.catalog.tags import check_tag
from recollect.codec.document import open_document, seal_document
from recollect.errors import FormatVersionError, IntegrityError, NotFoundError, RequestError
from recollect.operations.backup import BackupOptions
from recollect.repository import layout
from recollect.testing.driver import Driver

# ---------------------------------------------------------------- selectors


def test_latest_and_those_before_it_are_found_by_time(filled: Driver) -> None:
    catalog = filled.catalog()
    ids = [snapshot.id for snapshot in catalog.list()]

    assert [catalog.find(f"latest~{back}").id for back in range(3)] == ids[::-1]
    assert catalog.find("latest").id == ids[-1]


@pytest.mark.parametrize("selector", ["latest~3", "latest~-1", "latest~", "LATEST", "nothing", "", "01k"])
def test_what_fits_nothing_is_not_found(filled: Driver, selector: str) -> None:
    with pytest.raises(NotFoundError, match="3 snapshots") as caught:
        filled.catalog().find(selector)

    assert "recollect snapshots" in caught.value.next_step


def test_ids_are_found_whole_by_prefix_and_in_capitals(filled: Driver) -> None:
    catalog = filled.catalog()
    identity = catalog.ids()[1]
    others = set(catalog.ids()) - {identity}
    unique = next(n for n in range(4, 27) if not any(each.startswith(identity[:n]) for each in others))

    assert catalog.find(identity).id == catalog.find(identity.upper()).id == identity
    assert catalog.find(identity[:unique]).id == identity


def test_a_prefix_of_several_is_refused_with_them(filled: Driver) -> None:
    with pytest.raises(RequestError, match="fits 3 snapshots"):
        filled.catalog().find(filled.catalog().ids()[0][:4])


def test_of_snapshots_with_one_name_the_newest_is_meant(filled: Driver) -> None:
    filled.backup(BackupOptions(name="nightly"))
    second = filled.backup(BackupOptions(name="nightly")).snapshot
    filled.backup(BackupOptions(name="other"))

    assert filled.catalog().find("nightly").id == second.id


@pytest.mark.parametrize("name", ["latest", "latest~2"])
def test_a_name_that_would_never_be_found_is_refused(filled: Driver, name: str) -> None:
    before = filled.stored_keys()

    with pytest.raises(RequestError, match="selects by age"):
        filled.backup(BackupOptions(name=name))

    assert filled.stored_keys() == before


def test_an_empty_repository_has_no_latest(driver: Driver) -> None:
    with pytest.raises(NotFoundError, match="0 snapshots"):
        driver.catalog().find("latest")


def test_a_full_id_is_found_although_another_snapshot_is_damaged(filled: Driver) -> None:
    first, *_, last = filled.catalog().ids()
    filled.store.put(layout.snapshot_key(first), b"{")

    assert filled.catalog().find(last).id == last
    with pytest.raises(IntegrityError, match=first):
        filled.catalog().find("latest")


def test_a_snapshot_of_a_newer_format_is_named_and_unsupported(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    key = layout.snapshot_key(identity)
    content = open_document(filled.store.get(key)).replace(b'"format":1', b'"format":2')
    filled.store.put(key, seal_document(content))

    with pytest.raises(FormatVersionError, match=identity):
        filled.catalog().list()


def test_exchanged_snapshot_files_are_noticed(filled: Driver) -> None:
    first, second = (layout.snapshot_key(identity) for identity in filled.catalog().ids()[:2])
    data = filled.store.get(first)
    filled.store.put(first, filled.store.get(second))
    filled.store.put(second, data)

    with pytest.raises(IntegrityError, match="holds the snapshot"):
        filled.catalog().list()


# ---------------------------------------------------------------- tags


def test_tags_given_at_creation_and_later_add_up(filled: Driver) -> None:
    identity = filled.backup(BackupOptions(tags=("b", "a", "b"))).snapshot.id
    catalog = filled.catalog()

    assert catalog.read(identity).tags == ("a", "b")
    assert catalog.tag(identity, add=["c"], remove=["a"]).tags == ("b", "c")
    assert catalog.read(identity).tags == ("b", "c")
    assert catalog.tag(identity, remove=["b", "c", "never there"]).tags == ()
    assert catalog.read(identity).tags == ()


def test_tags_that_are_there_already_write_nothing(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    filled.catalog().tag(identity, add=["a"])
    before = filled.stored_keys()

    filled.catalog().tag(identity, add=["a"], remove=["b"])

    assert filled.stored_keys() == before


def test_tagging_rewrites_no_snapshot(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    before = filled.store.get(layout.snapshot_key(identity))

    filled.catalog().tag(identity, add=["a"])

    assert filled.store.get(layout.snapshot_key(identity)) == before


def test_tags_changed_by_many_at_once_all_take_effect(filled: Driver) -> None:
    identity = filled.catalog().ids()[0]
    wanted = [f"tag{number}" for number in range(16)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda tag: filled.catalog().tag(identity, add=[tag]), wanted))

    assert set(filled.catalog().read(identity).tags) == set(wanted)


@pytest.mark.parametrize("tag", ["", "a b", "a,b", "\t", "x" * 65, "a\n"])
def test_what_is_no_tag_is_refused_before_anything_is_written(filled: Driver, tag: str) -> None:
    before = filled.stored_keys()

    with pytest.raises(RequestError, match="not a valid tag"):
        filled.catalog().tag(filled.catalog().ids()[0], add=[tag])
    with pytest.raises(RequestError, match="not a valid tag"):
        filled.backup(BackupOptions(tags=(tag,)))

    assert filled.stored_keys() == before


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64))
def test_tags_have_no_spaces_and_commas(text: str) -> None:
    try:
        assert check_tag(text) == text
    except RequestError:
        assert any(each.isspace() or each == "," for each in text)
