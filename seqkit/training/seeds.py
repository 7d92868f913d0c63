"""Seeds made of several numbers."""

from __future__ import annotations

__all__ = ["seed_of"]


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, by a hash that keeps neighbours apart (splitmix64)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1
