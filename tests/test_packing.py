"""A packed page whose stretches are packed apart is the page, whatever changed since the last one."""

from __future__ import annotations

import gzip
import random
from unittest import mock

import pytest

from exporter import packing
from exporter.lines import Key
from exporter.packing import Member, Packing


def unpacked(blocks: dict[Key, bytes], packed: Packing, more: bytes = b"own\n") -> bytes:
    plain = b"head\n" + b"".join(blocks.values())
    member = Member((plain[: len(plain) // 2], plain[len(plain) // 2 :]))
    member.add(b"head\n")
    member.take(packed.packed(blocks))
    assert gzip.decompress(b"".join(member.ended(more))) == plain + more
    return plain


@pytest.mark.parametrize("seed", range(20))
def test_after_any_changes_the_packed_page_is_the_plain_one(seed: int) -> None:
    chooser, blocks, packed = random.Random(seed), dict[Key, bytes](), Packing()
    with mock.patch.object(packing, "STRETCH_BYTES", 64):
        for step in range(60):
            for _ in range(chooser.randint(0, 4)):
                key = ("acme", str(chooser.randint(0, 30)))
                block = chooser.choice([b"", b"x" * chooser.randint(1, 40) + str(step).encode()])
                before = blocks.get(key, b"")
                if block == before:
                    continue
                packed.note(key, before, block)
                if block:
                    blocks[key] = block
                else:
                    del blocks[key]
            unpacked(blocks, packed)


def test_a_block_that_changes_packs_its_own_stretch_anew_and_no_other() -> None:
    blocks = {("acme", str(number)): b"%05d" % number * 20 for number in range(1000)}
    packed = Packing()
    before = list(packed.packed(blocks))
    assert len(before) == 7  # of 163 blocks of 100 bytes
    packed.note(("acme", "500"), blocks["acme", "500"], b"changed\n")
    blocks["acme", "500"] = b"changed\n"
    after = packed.packed(blocks)
    assert [old is new for old, new in zip(before, after, strict=True)] == [True, True, True, False, True, True, True]
    unpacked(blocks, packed)


def test_nothing_at_all_can_be_packed() -> None:
    assert unpacked({}, Packing(), more=b"") == b"head\n"
