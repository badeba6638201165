"""Which stores fall to which shard, and that nobody counts on another shard's state."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from exporter.config import Config, Secret, StoreConfig
from exporter.sharding import SHARDS_MAX, MisplacedError, Shard, claim, parse, shard_of
from exporter.store import Store
from tests.shelf import NOW

NAMES = [f"store-{number}" for number in range(1000)]


def spread(total: int) -> list[int]:
    return [shard_of(name, total) for name in NAMES]


def test_every_store_falls_to_one_shard_and_all_shards_get_their_part() -> None:
    for total in (1, 2, 3, 7, 100):
        sizes = Counter(spread(total))
        assert set(sizes) == set(range(total))
        # Of random draws with the mean m, nearly all are within m ± 4√m.
        mean = len(NAMES) / total
        assert all(abs(size - mean) <= 4 * mean**0.5 for size in sizes.values()), sizes


@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_one_shard_more_takes_its_part_from_the_others_and_moves_nothing_between_them(total: int) -> None:
    moved = [(a, b) for a, b in zip(spread(total), spread(total + 1), strict=True) if a != b]
    assert {target for _, target in moved} == {total}
    assert {source for source, _ in moved} == set(range(total))
    mean = len(NAMES) / (total + 1)
    assert abs(len(moved) - mean) <= 4 * mean**0.5


def test_where_a_store_falls_never_changes() -> None:
    """States lie where an earlier version has put them."""
    assert [shard_of(name, 3) for name in ("acme", "north", "south", "магазин", "", "a/b")] == [2, 1, 2, 2, 0, 2]


@pytest.mark.parametrize(
    ("text", "hostname", "wanted"),
    [("0/1", "h", Shard(0, 1)), ("2/3", "h", Shard(2, 3)), ("02/003", "h", Shard(2, 3)), ("99/100", "h", Shard(99, 100)),
     ("auto/3", "epcc-exporter-2", Shard(2, 3)), ("auto/12", "epcc-exporter-11.epcc.shop.svc", Shard(11, 12)),
     ("auto/1", "0", Shard(0, 1))],
)  # fmt: skip
def test_a_shard_is_named_or_found_in_the_hosts_name(text: str, hostname: str, wanted: Shard) -> None:
    assert parse(text, hostname) == wanted


@pytest.mark.parametrize(
    ("text", "hostname", "wrong"),
    [("3", "h", "wanted I/N, like 0/3, or auto/N"), ("-1/3", "h", "wanted I/N"), ("1/3 ", "h", "wanted I/N"),
     ("a/3", "h", "wanted I/N"), ("\u0661/\u0663", "h", "wanted I/N"), ("1000/1001", "h", "wanted I/N"),
     ("0/0", "h", "0 shards, wanted 1 to 100"), ("0/101", "h", "101 shards, wanted 1 to 100"),
     ("3/3", "h", "there is no shard 3 of 3, they are counted from 0"),
     ("auto/3", "epcc-exporter-3", "there is no shard 3 of 3"), ("auto/3", "node7", "does not end in a number"),
     ("auto/3", "web-1a", "the host's name 'web-1a' does not end in a number, like epcc-exporter-0")],
)  # fmt: skip
def test_a_wrong_shard_is_refused(text: str, hostname: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\A'.*'") as refused:
        parse(text, hostname)
    assert wrong in str(refused.value)
    assert SHARDS_MAX == 100


def test_a_shards_share_of_a_configuration_is_its_stores_in_their_order_and_may_be_none() -> None:
    stores = tuple(StoreConfig(name, "http://a", Secret("a"), Secret("b")) for name in NAMES[:10])
    shares = [Shard(ordinal, 3).share(Config(stores)).stores for ordinal in range(3)]
    assert sorted((each.name for share in shares for each in share), key=NAMES.index) == NAMES[:10]
    assert all(list(share) == sorted(share, key=stores.index) for share in shares)
    alone = Config(stores[:1])
    assert sorted(len(Shard(ordinal, 3).share(alone).stores) for ordinal in range(3)) == [0, 0, 1]
    assert Shard().share(alone) is alone


def test_the_check_names_the_stores_of_the_shard() -> None:
    names = ["acme", "north", "south"]
    assert [Shard(ordinal, 3).summary(names) for ordinal in range(3)] == [
        "shard 0/3: 0 stores", "shard 1/3: 1 store: north", "shard 2/3: 2 stores: acme, south",
    ]  # fmt: skip


# --- whose a state is


def opened(folder: Path, shard: Shard, *stores: str) -> None:
    """A life of a shard on a folder, with these stores. Raises MisplacedError."""
    store = Store.open(folder, NOW)
    try:
        claim(store, shard, folder)
        for name in stores:
            store.begin(name, NOW)
    finally:
        store.close()


def test_a_new_state_is_the_shards_that_made_it_and_no_others(tmp_path: Path) -> None:
    opened(tmp_path, Shard(0, 2), "acme")
    opened(tmp_path, Shard(0, 2))
    for other in (Shard(1, 2), Shard(0, 3), Shard()):
        with pytest.raises(MisplacedError) as refused:
            opened(tmp_path, other)
        assert str(refused.value) == (
            f"{tmp_path} holds the state of shard 0/2, and this is shard {other}: stop all shards, and let "
            "`epcc-exporter reshard` move the states"
        )


def test_the_state_of_an_exporter_without_shards_is_that_of_the_only_one(tmp_path: Path) -> None:
    opened(tmp_path, Shard(), "acme")
    opened(tmp_path, Shard())
    with pytest.raises(MisplacedError, match=r"holds the state of shard 0/1, and this is shard 0/2"):
        opened(tmp_path, Shard(0, 2))


def test_a_state_without_a_store_may_become_any_shards(tmp_path: Path) -> None:
    opened(tmp_path, Shard())
    opened(tmp_path, Shard(1, 2))
