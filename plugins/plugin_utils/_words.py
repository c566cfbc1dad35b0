# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for people: sizes, short lists of names, and tables in plain text."""

from __future__ import annotations

import re
import typing as t

_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def size(amount: float) -> str:
    """Bytes as a person writes them: 4 GiB, 1.5 TiB, 512 MiB."""
    for unit, name in _UNITS:
        if abs(amount) >= unit:
            return f"{amount / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{amount:.0f} bytes"


def number(amount: float) -> str:
    """A number without a needless fraction."""
    return f"{amount:.1f}".removesuffix(".0")


def percent(part: float, whole: float) -> str:
    return "-" if whole <= 0 else f"{100 * part / whole:.0f} %"


def listing(names: t.Iterable[str], limit: int = 5) -> str:
    """The first names and how many more there are."""
    every = list(names)
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {more} more" if more > 0 else "")


def counted(amount: int, thing: str) -> str:
    """1 guest, 2 guests."""
    return f"{amount} {thing}" + ("" if amount == 1 else "s")


def table(head: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    """Aligned lines; a column whose cells are all empty is left out."""
    wanted = [index for index in range(len(head)) if any(row[index] for row in rows)]
    grid = [[line[index] for index in wanted] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in grid) for column in range(len(wanted))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]


def natural(name: str) -> tuple[t.Any, ...]:
    """Sort key under which wn2 comes before wn10."""
    pieces = re.split(r"(\d+)", name)
    return tuple((int(piece), piece) if number % 2 else (0, piece) for number, piece in enumerate(pieces))
