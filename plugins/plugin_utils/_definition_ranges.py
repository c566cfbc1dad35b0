# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges of names, written as in an Ansible inventory: `node[01:20]`, `node[1:9:2]`, `r[1:2]n[01:16]`, `a,b[1:3,7]`.

A first number with a leading zero fixes the width: `[01:20]` gives 01 to 20. Names keep the order in which they
are written.
"""

from __future__ import annotations

import itertools
import math
import re

#: No cluster has more machines than this; a range that gives more is a slip of the finger, not a wish.
LIMIT = 100_000

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_PART = re.compile(r"^(\d+)(?::(\d+)(?::(\d+))?)?$")


class RangeError(ValueError):
    """A range that cannot be read; the message says what is wrong with it and what is allowed."""


def expand(text: str) -> list[str]:
    """All names of a range text, in order. Raises RangeError."""
    names: list[str] = []
    for item in _split(text):
        pieces = _BRACKETS.split(item)  # text, inside, text, inside, ..., text
        if any("[" in piece or "]" in piece for piece in pieces[0::2]):
            raise RangeError(f"{item!r} has a bracket without its other half")
        choices = [[piece] if index % 2 == 0 else _numbers(piece, item) for index, piece in enumerate(pieces)]
        if math.prod(map(len, choices)) + len(names) > LIMIT:
            raise RangeError(f"{item!r} gives more than {LIMIT} names")
        names.extend("".join(combination) for combination in itertools.product(*choices))
    return names


def _split(text: str) -> list[str]:
    """Split at the commas that are outside brackets."""
    items, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            items.append(text[start:position])
            start = position + 1
    items.append(text[start:])
    items = [item.strip() for item in items]
    if not all(items):
        raise RangeError("an empty name: look for a comma too many" if text.strip() else "an empty name")
    return items


def _numbers(inside: str, item: str) -> list[str]:
    """What stands in one pair of brackets: `01:20`, `1:9:2`, `7`, or several of these with commas between."""
    found: list[str] = []
    for part in inside.split(","):
        match = _PART.match(part.strip())
        if not match:
            raise RangeError(f"[{inside}] in {item!r} is no range; write [FIRST:LAST], such as [01:20]")
        first, last, step = match.group(1), match.group(2) or match.group(1), match.group(3) or "1"
        padded = any(len(number) > 1 and number.startswith("0") for number in (first, last))
        if padded and len(first) != len(last):
            width = max(len(first), len(last))
            raise RangeError(
                f"[{part.strip()}] in {item!r}: both ends need the same width;"
                f" write [{first.zfill(width)}:{last.zfill(width)}]"
            )
        if len(first) > 9 or len(last) > 9 or len(step) > 9:
            raise RangeError(f"[{part.strip()}] in {item!r}: a number of more than nine digits")
        if int(last) < int(first):
            raise RangeError(f"[{part.strip()}] in {item!r} runs backwards")
        if int(step) < 1:
            raise RangeError(f"[{part.strip()}] in {item!r}: the step must be 1 or more")
        if (int(last) - int(first)) // int(step) >= LIMIT:
            raise RangeError(f"{item!r} gives more than {LIMIT} names")
        width = len(first) if padded else 0
        found.extend(str(number).zfill(width) for number in range(int(first), int(last) + 1, int(step)))
    return found
