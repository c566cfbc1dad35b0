# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`oscarv_select`: which guests something is done to.

A pattern is a list with commas or spaces between: a guest, a range (`wn[001:010]`), a glob (`wn0*`), a partition,
`oscarv_partition_X`; an item that starts with `!` takes away again.
"""

from __future__ import annotations

import fnmatch
import re
import typing as t

from ._definition_ranges import RangeError, expand
from ._model import Cluster

_SEPARATOR = re.compile(r"[,\s]+(?![^\[]*\])")
_GROUP = "oscarv_partition_"


class SelectError(ValueError):
    """A pattern that cannot be read, or an item that selects nothing."""


def select(cluster: Cluster, pattern: str | t.Sequence[str] | None, known: t.Iterable[str] = ()) -> list[str] | None:
    """The selected guests in the order of the definition; None: nothing was selected, so all are meant.

    `known`: further names (guests that left the definition). Raises SelectError.
    """
    if pattern is None or pattern == "" or pattern == []:
        return None
    texts = [pattern] if isinstance(pattern, str) else list(pattern)
    items = [item for text in texts for item in _SEPARATOR.split(str(text).strip()) if item]
    names = list(dict.fromkeys([*cluster.guests, *known]))
    chosen: dict[str, None] = {}
    if items and items[0].startswith("!"):
        chosen = dict.fromkeys(names)
    for item in items:
        away = item.startswith("!")
        for name in _matching(cluster, item.lstrip("!"), names):
            if away:
                chosen.pop(name, None)
            else:
                chosen[name] = None
    if not chosen:
        raise SelectError(f"select {', '.join(items)!r} selects no guest")
    return [name for name in names if name in chosen]


def select_hosts(cluster: Cluster, pattern: str | t.Sequence[str] | None) -> list[str]:
    """HostOSes by name, range, glob, host partition or enclosure (whatever stands in it), in the definition's order.

    Raises SelectError.
    """
    texts = [pattern] if isinstance(pattern, str) else list(pattern or ())
    items = [item for text in texts for item in _SEPARATOR.split(str(text).strip()) if item]
    chosen: set[str] = set()
    for item in items:
        partition = cluster.host_partitions.get(item)
        if partition:
            found = list(partition.members)
        elif item in cluster.enclosures:
            found = [host.name for host in cluster.hosts.values() if item in (name for _level, name in host.enclosures)]
        else:
            found = _in_range(cluster, item, list(cluster.hosts), "HostOS") if "[" in item else []
            found = found or fnmatch.filter(cluster.hosts, item)
        if not found:
            raise SelectError(
                f"hosts {item!r}: no HostOS, host partition or enclosure of cluster {cluster.name} is called so"
            )
        chosen.update(found)
    return [name for name in cluster.hosts if name in chosen]


def _matching(cluster: Cluster, item: str, names: list[str]) -> list[str]:
    partition = cluster.guest_partitions.get(item.removeprefix(_GROUP))
    if partition:
        found = [name for name in partition.members if name in set(names)]
    elif "[" in item:  # a range, as everywhere in a definition; fnmatch would read wn[1:9] as wn1, wn: and wn9
        found = _in_range(cluster, item, names, "guest")
    else:
        found = fnmatch.filter(names, item)
    if not found:
        raise SelectError(
            f"select {item!r}: no guest or guest partition of cluster {cluster.name} is called so; partitions:"
            f" {', '.join(cluster.guest_partitions) or 'none'}"
        )
    return found


def _in_range(cluster: Cluster, item: str, names: list[str], thing: str) -> list[str]:
    try:
        wished = set(expand(item))
    except RangeError as error:
        raise SelectError(f"{item!r}: {error}") from error
    missing = sorted(wished - set(names))
    if missing:
        raise SelectError(f"{item!r}: there is no {thing} {missing[0]} in cluster {cluster.name}")
    return [name for name in names if name in wished]
