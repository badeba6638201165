"""Which stores fall to this process: `--shard=I/N`.

Stores are spread by rendezvous hashing: a store falls to the shard whose number, hashed together with the store's name,
gives the largest value. Every process comes to the same answer from the names alone, with nobody to ask; and a shard
more takes its stores from all the others and moves nothing between those: of N+1 shards, one store in N+1 moves. (The
remainder of a hash by N, kube-state-metrics' way, moves nearly all of them; there nothing is remembered of an object,
while a store here has a state that has to move with it.)

A state belongs to the shard that made it, and says so. A process that finds another's refuses to start: stores that had
come to it would begin anew, and those that had left it might be counted by two. `reshard` moves states, and alone
changes what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Final

from exporter.config import Config
from exporter.store import Store

SHARDS_MAX: Final = 100  # ten stores to each, of the most that a configuration may have
NOTE: Final = "shard"  # in the state: whose it is, as I/N, or one of the two below
MOVING: Final = "moving"
EMPTIED: Final = "none"
_SHARD: Final = re.compile(r"(auto|[0-9]{1,3})/([0-9]{1,3})", re.ASCII)
_ORDINAL: Final = re.compile(r"(?:.*-)?([0-9]{1,3})", re.ASCII)


class MisplacedError(Exception):
    """The state at this storage path is another shard's."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `ordinal`, from 0, of `total`. The only one of one owns every store."""

    ordinal: int = 0
    total: int = 1

    def __str__(self) -> str:
        return f"{self.ordinal}/{self.total}"

    def owns(self, store: str) -> bool:
        return shard_of(store, self.total) == self.ordinal

    def share(self, config: Config) -> Config:
        """What of a configuration is this shard's: perhaps no store at all."""
        if self.total == 1:
            return config
        return replace(config, stores=tuple(each for each in config.stores if self.owns(each.name)))

    def summary(self, stores: Iterable[str]) -> str:
        """What `--config.check` says."""
        own = [name for name in stores if self.owns(name)]
        return f"shard {self}: {len(own)} store{'s' if len(own) != 1 else ''}{': ' if own else ''}{', '.join(own)}"


def shard_of(store: str, total: int) -> int:
    """The number of the shard that a store falls to. Another hash would move nearly every store: it stays as it is."""
    return max(range(total), key=lambda ordinal: blake2b(f"{ordinal}/{store}".encode(), digest_size=16).digest())


def parse(text: str, hostname: str) -> Shard:
    """`I/N`, or `auto/N`: I is the number at the end of the host's name, as a StatefulSet's pods have it.

    Raises ValueError, in words.
    """
    match = _SHARD.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}, wanted I/N, like 0/3, or auto/N")
    total = int(match[2])
    if not 1 <= total <= SHARDS_MAX:
        raise ValueError(f"{text!r}: {total} shards, wanted 1 to {SHARDS_MAX}")
    number = match[1]
    if number == "auto":
        ordinal = _ORDINAL.fullmatch(hostname.partition(".")[0])
        if ordinal is None:
            raise ValueError(f"{text!r}: the host's name {hostname!r} does not end in a number, like epcc-exporter-0")
        number = ordinal[1]
    if int(number) >= total:
        raise ValueError(f"{text!r}: there is no shard {int(number)} of {total}, they are counted from 0")
    return Shard(int(number), total)


def claim(store: Store, shard: Shard, folder: Path) -> None:
    """Raises MisplacedError where a state is another shard's; a new one is this one's from now on. StorageError."""
    made_by = store.note(NOTE)
    if made_by is None and (shard.total == 1 or not store.names):
        if shard.total > 1:
            store.keep_note(NOTE, str(shard))
        return
    whose = str(Shard()) if made_by is None else made_by
    if whose != str(shard):
        holds = {MOVING: "holds a move that has not ended", EMPTIED: "was emptied by a move"}.get(
            whose, f"holds the state of shard {whose}"
        )
        raise MisplacedError(
            f"{folder} {holds}, and this is shard {shard}: stop all shards, and let `epcc-exporter reshard` move the "
            "states"
        )
