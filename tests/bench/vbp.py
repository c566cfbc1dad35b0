# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reader of vector packing instances in text (`.vbp`): one kind of bin, items in classes.

A file is whitespace-separated whole numbers: the number of dimensions d, the d capacities of a bin, the number m of
item classes, then for each class its d sizes and its demand. Optima come from a file `optima.txt` beside the instances:
lines of `NAME OPTIMUM`, where NAME is the file's name with or without its suffix.
"""

from __future__ import annotations

import dataclasses
import pathlib

from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_consolidate import solve_packing
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_packing import Flavour, Kind, Packing


@dataclasses.dataclass(frozen=True)
class Instance:
    name: str
    room: tuple[int, ...]
    items: tuple[tuple[tuple[int, ...], int], ...]  #: (sizes, how many)
    optimum: int | None = None


class VbpError(ValueError):
    """A file that is no vector packing instance; says which and why."""


def read(path: pathlib.Path, optimum: int | None = None) -> Instance:
    """One instance. Raises VbpError for a file that does not keep to the format."""
    try:
        numbers = [int(word) for word in path.read_text().split()]
        dimensions = numbers[0]
        room = tuple(numbers[1 : 1 + dimensions])
        classes, start = numbers[1 + dimensions], 2 + dimensions
        width = dimensions + 1
        rows = [tuple(numbers[start + width * n : start + width * (n + 1)]) for n in range(classes)]
    except (ValueError, IndexError) as error:
        raise VbpError(f"{path}: {error}") from error
    if dimensions < 1 or len(room) < dimensions or any(len(row) < width for row in rows):
        raise VbpError(f"{path}: fewer numbers than its head announces")
    if min([*room, *(number for row in rows for number in row)]) < 0:
        raise VbpError(f"{path}: a negative number")
    return Instance(path.stem, room, tuple((row[:-1], row[-1]) for row in rows), optimum)


def folder(path: pathlib.Path) -> list[Instance]:
    """All `*.vbp` below a folder, with the optima that its `optima.txt` files know."""
    optima: dict[str, int] = {}
    for listed in sorted(path.rglob("optima.txt")):
        for line in listed.read_text().splitlines():
            words = line.split("#")[0].split()
            if len(words) >= 2:
                optima[words[0].removesuffix(".vbp")] = int(words[1])
    return [read(found, optima.get(found.stem)) for found in sorted(path.rglob("*.vbp"))]


def packing(instance: Instance) -> Packing:
    """The planner's question for it: as many bins as there are items. Raises VbpError beyond three dimensions."""
    if len(instance.room) > 3:
        raise VbpError(f"{instance.name}: {len(instance.room)} dimensions, the planner knows three")
    bins = sum(count for _sizes, count in instance.items)
    every = frozenset(range(len(instance.items)))
    flavours = tuple(Flavour(_three(sizes), count) for sizes, count in instance.items)
    return Packing((Kind(_three(instance.room), bins, every),), flavours)


def _three(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    first, second, third = (*numbers, 0, 0)[:3]
    return (first, second, third)


def solve(instance: Instance, engine: str) -> tuple[int, int]:
    """(bins used, a lower bound); the answer is counted anew. Raises VbpError if an engine's answer is wrong."""
    asked = packing(instance)
    bound, fills, _engine = solve_packing(asked, engine)
    left = [count for _sizes, count in instance.items]
    for _kind, pattern in fills or ():
        for dimension, room in enumerate(instance.room):
            if sum(instance.items[number][0][dimension] * count for number, count in pattern) > room:
                raise VbpError(f"{instance.name}: a bin holds more than it can")
        for number, count in pattern:
            left[number] -= count
    if fills is None or any(left):
        raise VbpError(f"{instance.name}: not every item has a bin")
    return len([pattern for _kind, pattern in fills if pattern]), bound
