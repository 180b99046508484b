"""Seeded changes of bytes: flipped bits, cuts, insertions, duplicates, and values of another size or type."""

import random
import re

HOSTILE = (
    b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x7f\xff\xff\xff", b"\x00" * 8, b"\xff" * 8, b"-1", b"1e999", b"NaN",
    b"null", b"[" * 2000, b"{\"a\":" * 2000, b"\xed\xa0\x80", b"\x1b[2J", b"'", b"\"", b"\n", b"\x00", b"99999999999",
    b"true", b"[]", b"{}",
)  # fmt: skip
"""Bytes that are written over or into the content."""
LARGEST_TEXT = 1 << 16
CHANGES = ("flip", "flip", "cut", "insert", "duplicate", "overwrite", "hostile", "remove", "value")
VALUE = re.compile(rb'(?<=[:=\[,\s])(?:-?\d+(?:\.\d+)?(?:e-?\d+)?|"[^"\n]*"|true|false|null)(?=[\],}\s])')
"""A number, a text or a constant in JSON, TOML or CSV."""
VALUES = (
    b"null", b"true", b"0", b"-5", b"2.5", b"1e30", b"1000000000", b"4611686018427387904", b"1" + b"0" * 30,
    b'"x"', b'""',
    b"[]", b"{}", b"[[1]]", b'"=1+1"',
)  # fmt: skip
"""Values of another type or size, in place of one in a text."""


def mutate(content: bytes, seed: int) -> bytes:
    """Return the content with one to three changes, which the seed chooses."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _change(content, rng)
    return content


def header_bits(content: bytes, number: int, length: int) -> bytes:
    """Return the content with one bit of its first bytes flipped.

    Args:
        content: The content.
        number: Number of the bit; those beyond the header begin again.
        length: Length of the header in bytes.
    """
    position, bit = divmod(number % (8 * min(length, len(content))), 8)
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


def _change(content: bytes, rng: random.Random) -> bytes:
    # Half of the changes are in the first bytes, where formats have their headers.
    end = len(content) if rng.random() < 0.5 else min(len(content), 256)
    start = rng.randrange(end + 1)
    length = min(len(content) - start, rng.choice((1, 2, 4, 16, 200)))
    before, part, after = content[:start], content[start : start + length], content[start + length :]
    change = rng.choice(CHANGES)
    if change == "value" and (places := list(VALUE.finditer(content[:LARGEST_TEXT]))):
        place = rng.choice(places)
        return content[: place.start()] + rng.choice(VALUES) + content[place.end() :]
    if change == "flip":
        return before + bytes([part[0] ^ (1 << rng.randrange(8))]) + part[1:] + after if part else content
    if change == "cut":
        return before
    if change == "remove":
        return before + after
    if change == "duplicate":
        return before + part * rng.choice((2, 3, 50)) + after
    new = rng.choice(HOSTILE) if change == "hostile" else rng.randbytes(length)
    return before + new + (part if change == "insert" else b"") + after
