# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, times and percentages as people write them. A bare number is refused: nobody can tell what it counts."""

from __future__ import annotations

import fractions
import functools
import re

#: Sizes are rounded up to whole MiB: libvirt counts memory in KiB and QEMU disks in sectors, and a size that the
#: hypervisor has to round would differ from its definition on every run.
ALIGNMENT = 2**20

SIZES = {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
}
TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400}

SIZE_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,6})? ?(" + "|".join(SIZES) + ")$"
TIME_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})? ?(" + "|".join(TIMES) + ")$"
PERCENT_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,6})? ?%$"

_NUMBER = re.compile(r"^([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z%]*)$")


class UnitError(ValueError):
    """A quantity that cannot be read; the message says what is allowed."""


@functools.lru_cache(maxsize=256)  # thousands of overrides say the same few sizes
def size(text: str) -> int:
    """Bytes of '4 GiB' or '500 MB', rounded up to whole MiB."""
    amount, unit = _parse(text, "a size needs a unit, such as '4 GiB' or '500 MB'")
    if unit not in SIZES:
        raise UnitError(f"unknown unit {unit!r}{_meant(unit)}; a size is written with one of {', '.join(SIZES)}")
    exact = amount * SIZES[unit]
    return -int(-exact // ALIGNMENT) * ALIGNMENT


def seconds(text: str) -> int:
    """Seconds of '90 s', '15 min', '1 h' or '2 d'."""
    amount, unit = _parse(text, "a time needs a unit, such as '90 s', '15 min', '1 h' or '2 d'")
    if unit not in TIMES:
        raise UnitError(f"unknown unit {unit!r}; a time is written with one of {', '.join(TIMES)}")
    return int(amount * TIMES[unit])


def percent(text: str) -> float:
    """The fraction of '10 %': 0.1."""
    amount, unit = _parse(text, "a share needs its percent sign, such as '10 %'")
    if unit != "%" or amount > 100:
        raise UnitError("a share is written as '0 %' to '100 %'")
    return float(amount / 100)


def show_size(value: int) -> str:
    """Bytes for people: 4294967296 is '4 GiB'."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        if value >= SIZES[unit]:
            return f"{value / SIZES[unit]:.6g} {unit}"
    return f"{value} B"


def _parse(text: str, bare: str) -> tuple[fractions.Fraction, str]:
    match = _NUMBER.match(text.strip())
    if not match or not match.group(2):
        raise UnitError(bare)
    return fractions.Fraction(match.group(1)), match.group(2)


def _meant(unit: str) -> str:
    """K, M, G and the like mean 1000 to some and 1024 to others; name both."""
    letter = unit[:1].upper()
    if (
        letter
        and letter in "KMGTP"
        and unit.lower() in {f"{letter}".lower(), f"{letter}b".lower(), f"{letter}ib".lower()}
    ):
        decimal = "kB" if letter == "K" else f"{letter}B"
        return f" (did you mean {letter}iB or {decimal}?)"
    return ""
