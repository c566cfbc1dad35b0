# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's configuration file, /etc/vz/conf/CTID.conf: lines KEY="value" in the shell's syntax."""

from __future__ import annotations

import re
import typing as t

PAGE = 4096
KIB = 1024
#: What the tools write for "no limit", on 32 and on 64 bits.
UNLIMITED = frozenset({2**63 - 1, 2**31 - 1})

_LINE = re.compile(r"""^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s"'#]*))\s*(?:#.*)?$""")
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([BKMGTP]?)$", re.IGNORECASE)
_FACTOR = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def read_conf(text: str, ctid: str = "") -> dict[str, str]:
    """Every setting; a later line wins, as in the shell. $VEID stands for `ctid`, and $UUID for the same on 7."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            key, double, single, bare = match.groups()
            value = single if single is not None else _expand(double if double is not None else bare, ctid)
            found[key] = value
    return found


def _expand(value: str, ctid: str) -> str:
    return re.sub(r"\$\{?(?:VEID|UUID|CTID)\}?(?![A-Za-z0-9_])", ctid, value) if ctid else value


def read_size(text: str, unit: int) -> int | None:
    """Bytes. A number without a suffix counts `unit` bytes, P counts pages; None for no limit or nonsense."""
    if text.lower() == "unlimited":
        return None
    match = _SIZE.match(text)
    if match is None:
        return None
    number, suffix = match.group(1), match.group(2).upper()
    if not suffix and number.isdigit() and int(number) in UNLIMITED:
        return None
    factor = unit if not suffix else (PAGE if suffix == "P" else _FACTOR[suffix])
    return int(number) * factor if number.isdigit() else round(float(number) * factor)


def limit_of(conf: t.Mapping[str, str], key: str, unit: int) -> int | None:
    """The limit of "barrier:limit" (or of a single number) in bytes."""
    text = conf.get(key, "")
    return read_size(text.rpartition(":")[2], unit) if text else None


def barrier_of(conf: t.Mapping[str, str], key: str, unit: int) -> int | None:
    """The barrier (soft limit) of "barrier:limit" in bytes."""
    text = conf.get(key, "")
    return read_size(text.partition(":")[0], unit) if text else None


def memory_of(conf: t.Mapping[str, str]) -> int | None:
    """RAM in bytes; None: unlimited, or limited by something else than VSwap."""
    return limit_of(conf, "PHYSPAGES", PAGE)


def swap_of(conf: t.Mapping[str, str]) -> int | None:
    return limit_of(conf, "SWAPPAGES", PAGE)


def disk_of(conf: t.Mapping[str, str]) -> int | None:
    """Hard limit of the disk in bytes."""
    return limit_of(conf, "DISKSPACE", KIB)


def number_of(conf: t.Mapping[str, str], key: str) -> int | None:
    text = conf.get(key, "").rstrip("%")
    return int(text) if text.isdigit() else None
