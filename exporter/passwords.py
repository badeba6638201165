"""Passwords against bcrypt hashes: what was verified once is remembered, and few are verified at a time.

bcrypt is slow on purpose (about 60 ms at cost 10, twice that for each step more), which makes every wrong password a
small attack. So it runs off the event loop, one at a time, and who would have to wait too long is sent away.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import bcrypt

VERIFICATIONS_MAX: Final = 1  # at a time, as exporter-toolkit: the other cores stay free
WAITING_MAX: Final = 64  # under way and waiting; at cost 10 the last one waits about four seconds
REMEMBERED_MAX: Final = 1_000  # of right passwords, and as many of wrong ones, so that these cannot push those out
COST_MIN: Final = 4  # bcrypt's own
COST_MAX: Final = 15  # two seconds; 31, which bcrypt allows, is two days
PASSWORD_BYTES_MAX: Final = 72  # bcrypt reads no more, and exporter-toolkit passes over the rest
# Canonical base64 alone: the last character of salt and digest has unused bits, and with them set nothing would match.
_HASH: Final = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]")
_DECOY: Final = b"." * 53  # salt and digest of no password that anybody will find


class BusyError(Exception):
    """Too many passwords wait to be verified."""


def cost_of(hashed: bytes) -> int | None:
    """The cost of a bcrypt hash as `htpasswd -B` writes it; None: not one."""
    match = _HASH.fullmatch(hashed)
    return None if match is None else int(match[1])


def matches(hashed: bytes, password: bytes) -> bool:
    return bcrypt.checkpw(password[:PASSWORD_BYTES_MAX], hashed)


class Passwords:
    """Verifies for one process. Nothing of a password is kept: a keyed digest, whose key dies with the process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}
        self._turn = asyncio.Semaphore(VERIFICATIONS_MAX)

    async def right(self, users: Mapping[bytes, bytes], user: bytes, password: bytes) -> bool:
        """Whether it is this user's; an unknown user costs what a known one does. Raises BusyError."""
        known = user in users
        hashed = users[user] if known else self._decoy(users, user)
        digest = self._digest(user, hashed, password)
        for remembered, answer in ((self._right, True), (self._wrong, False)):
            if digest in remembered:
                remembered.move_to_end(digest)
                return answer and known
        if digest not in self._under_way:
            if len(self._under_way) >= WAITING_MAX:
                raise BusyError
            verifying = asyncio.create_task(self._verify(digest, hashed, password, known=known))
            self._under_way[digest] = verifying
            verifying.add_done_callback(lambda _: self._under_way.pop(digest))
        # Whoever leaves takes nothing from the others who wait for the same answer.
        return await asyncio.shield(self._under_way[digest])

    async def _verify(self, digest: bytes, hashed: bytes, password: bytes, *, known: bool) -> bool:
        async with self._turn:
            right = await asyncio.to_thread(matches, hashed, password) and known
        remembered = self._right if right else self._wrong
        remembered[digest] = None
        if len(remembered) > REMEMBERED_MAX:
            remembered.popitem(last=False)
        return right

    def _decoy(self, users: Mapping[bytes, bytes], user: bytes) -> bytes:
        """A hash for a user who is none, with the cost of one who is: always the same one's for the same name."""
        costs = sorted(hashed[:7] for hashed in users.values())
        return costs[int.from_bytes(self._digest(user), "big") % len(costs)] + _DECOY

    def _digest(self, *parts: bytes) -> bytes:
        """With the hash in it, a changed password is another entry; the lengths tell each list of parts from others."""
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()
