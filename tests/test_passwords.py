"""Passwords: what is right, what it costs, and what a flood of wrong ones can do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest

from exporter import passwords
from exporter.passwords import REMEMBERED_MAX, VERIFICATIONS_MAX, WAITING_MAX, BusyError, Passwords, cost_of, matches

SECRET = b"correct horse"
USERS = {b"alice": bcrypt.hashpw(SECRET, bcrypt.gensalt(4)), b"bob": bcrypt.hashpw(b"other", bcrypt.gensalt(5))}


class Verifier:
    """Stands in for bcrypt, and says what it was asked; `gate` holds every answer back until it is set."""

    def __init__(self, *, wait: bool = False) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.at_a_time = self.most_at_a_time = 0
        self.gate = threading.Event()
        if not wait:
            self.gate.set()

    def __call__(self, hashed: bytes, password: bytes) -> bool:
        self.asked.append((hashed, password))
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        assert self.gate.wait(30)
        self.at_a_time -= 1
        return password == SECRET


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Verifier:
    made = Verifier()
    monkeypatch.setattr(passwords, "matches", made)
    return made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  other threads, which set no event of this loop
            await asyncio.sleep(0)


async def test_the_right_password_of_a_user_is_right_and_no_other() -> None:
    known = Passwords()
    for _ in range(2):  # verified, and remembered
        assert await known.right(USERS, b"alice", SECRET)
        assert await known.right(USERS, b"bob", b"other")
        for user, password in (
            (b"alice", b"other"), (b"bob", SECRET), (b"alice", b""), (b"", SECRET), (b"", b""), (b"Alice", SECRET),
            (b"alice", SECRET + b"\0"), (b"alice", SECRET + b" "), (b"carol", SECRET), (b"alic", b"e" + SECRET),
        ):  # fmt: skip
            assert not await known.right(USERS, user, password), (user, password)


def test_bytes_behind_the_72nd_are_passed_over_as_by_every_bcrypt() -> None:
    hashed = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4))
    assert matches(hashed, b"a" * 100)
    assert not matches(hashed, b"a" * 71)


def test_a_hash_is_known_by_its_form_and_one_that_could_never_match_is_none() -> None:
    good = b"$2b$12$" + b"a" * 21 + b"u" + b"a" * 30 + b"G"
    assert cost_of(good) == 12
    for bad in (b"", b"hunter2", good[:-1], good + b"a", good.replace(b"$2b", b"$2x"), good.replace(b"$12", b"$1x"),
                good.replace(b"u", b"v"), good[:-1] + b"H", good + b"\n"):  # fmt: skip
        assert cost_of(bad) is None, bad


def test_a_decoy_is_a_hash_that_bcrypt_takes_its_time_for() -> None:
    decoy = Passwords()._decoy(USERS, b"carol")
    assert cost_of(decoy) in (4, 5)
    assert not matches(decoy, SECRET)


async def test_an_unknown_user_costs_as_much_as_a_known_one_and_is_never_right(verifier: Verifier) -> None:
    known = Passwords()
    assert not await known.right(USERS, b"carol", SECRET)  # though the verifier says yes
    ((hashed, _),) = verifier.asked
    assert hashed[:7] in {each[:7] for each in USERS.values()}
    strangers = {known._decoy(USERS, f"user{i}".encode())[:7] for i in range(100)}
    assert strangers == {b"$2b$04$", b"$2b$05$"}  # one cost for all of them would tell who is there
    assert len({known._decoy(USERS, b"carol") for _ in range(10)}) == 1


async def test_what_is_remembered_of_one_user_and_password_is_that_of_no_other_pair(verifier: Verifier) -> None:
    known = Passwords()
    assert known._digest(b"alice", b"x", b"secret") != known._digest(b"alic", b"ex", b"secret")
    known._right[known._digest(b"carol", known._decoy(USERS, b"carol"), SECRET)] = None
    assert not await known.right(USERS, b"carol", SECRET)  # she is no user, whatever is remembered
    assert Passwords()._digest(b"alice") != known._digest(b"alice")  # nor is anything of use to another process


async def test_an_answer_is_remembered_until_the_hash_changes(verifier: Verifier) -> None:
    known = Passwords()
    for _ in range(3):
        assert await known.right(USERS, b"alice", SECRET)
        assert not await known.right(USERS, b"alice", b"wrong")
    assert len(verifier.asked) == 2
    changed = {b"alice": USERS[b"bob"]}
    assert await known.right(changed, b"alice", SECRET)
    assert verifier.asked[2:] == [(USERS[b"bob"], SECRET)]


async def test_no_password_is_kept_in_memory() -> None:
    known = Passwords()
    password = bytearray(b"PLANTED-password-1")
    assert not await known.right(USERS, b"alice", bytes(password))
    held: list[Any] = [known]
    seen = set()
    while held:
        each = held.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        assert not (isinstance(each, bytes | str) and "PLANTED" in str(each))
        held.extend(other for other in gc.get_referents(each) if isinstance(other, dict | list | tuple | bytes | str))


async def test_few_are_verified_at_a_time_and_who_would_wait_too_long_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, verifier = Passwords(), Verifier(wait=True)
    monkeypatch.setattr(passwords, "matches", verifier)
    known._right[known._digest(b"bob", USERS[b"bob"], b"other")] = None
    flood = [asyncio.create_task(known.right(USERS, b"alice", f"{i}".encode())) for i in range(WAITING_MAX)]
    await until(lambda: len(verifier.asked) == VERIFICATIONS_MAX)
    with pytest.raises(BusyError):
        await known.right(USERS, b"alice", SECRET)
    same = asyncio.create_task(known.right(USERS, b"alice", b"0"))  # waits with the one that is under way
    assert await known.right(USERS, b"bob", b"other")  # is remembered, and waits for nobody
    verifier.gate.set()
    assert not any(await asyncio.gather(*flood, same))
    assert (len(verifier.asked), verifier.most_at_a_time) == (WAITING_MAX, VERIFICATIONS_MAX)
    assert await known.right(USERS, b"alice", SECRET)


async def test_one_who_leaves_takes_nothing_from_another_who_waits_for_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, verifier = Passwords(), Verifier(wait=True)
    monkeypatch.setattr(passwords, "matches", verifier)
    leaves, stays = (asyncio.create_task(known.right(USERS, b"alice", SECRET)) for _ in range(2))
    await until(lambda: len(verifier.asked) == 1)
    leaves.cancel()
    verifier.gate.set()
    assert await stays
    assert len(verifier.asked) == 1
    assert known._under_way == {}


async def test_a_flood_of_wrong_passwords_neither_grows_nor_pushes_out_a_right_one(verifier: Verifier) -> None:
    known = Passwords()
    assert await known.right(USERS, b"alice", SECRET)
    for i in range(REMEMBERED_MAX + 10):
        await known.right(USERS, b"alice", f"wrong{i}".encode())
    assert len(known._wrong) == REMEMBERED_MAX
    verifier.asked.clear()
    assert await known.right(USERS, b"alice", SECRET)
    assert not await known.right(USERS, b"alice", f"wrong{REMEMBERED_MAX + 9}".encode())
    assert verifier.asked == []
