# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of `create` and `set` take, and how it is stored. None: the value is not valid."""

from __future__ import annotations

import ipaddress
import os
import re
import typing as t

PAGE = 4096
UNLIMITED = 2**63 - 1

Stored = t.Optional[str]

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([BKMGP]?)$", re.IGNORECASE)
_FACTOR = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "P": PAGE}


def size(text: str, unit: int) -> int | None:
    """In units; a bare number counts units already."""
    if text.lower() == "unlimited":
        return UNLIMITED
    match = _SIZE.match(text)
    if match is None:
        return None
    if not match.group(2):
        return int(float(match.group(1)))
    return int(float(match.group(1)) * _FACTOR[match.group(2).upper()]) // unit


def pair(unit: int) -> t.Callable[[str], Stored]:
    """`N[:N]`, as "barrier:limit"."""

    def parse(text: str) -> Stored:
        numbers = [size(part, unit) for part in text.split(":")]
        if not 1 <= len(numbers) <= 2 or None in numbers:
            return None
        return f"{numbers[0]}:{numbers[-1]}"

    return parse


def easy_pages(text: str) -> Stored:
    """--ram and --swap: bytes."""
    number = size(text, 1)
    return None if number is None else f"0:{number if number == UNLIMITED else number // PAGE}"


def number(low: int, high: int = 2**31 - 1) -> t.Callable[[str], Stored]:
    def parse(text: str) -> Stored:
        return str(int(text)) if text.isdigit() and low <= int(text) <= high else None

    return parse


def cpulimit(text: str) -> Stored:
    """`50%` is of the whole machine, 50 is of one CPU."""
    bare = text[:-1] if text.endswith("%") else text
    if not bare.isdigit():
        return None
    return str(int(bare) * (os.cpu_count() or 1) if text.endswith("%") else int(bare))


def iolimit(text: str) -> Stored:
    """A bare number is in MB/s, stored in bytes."""
    found = size(text if not text.isdigit() else f"{text}M", 1)
    return None if found is None else str(found)


def one_of(*words: str) -> t.Callable[[str], Stored]:
    return lambda text: text if text in words else None


def anything(text: str) -> Stored:
    return text


def address(text: str) -> Stored:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return None
    return text


def server(text: str) -> Stored:
    if text == "inherit":
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def name(text: str) -> Stored:
    return text if re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_. -]*", text) and not text.isdigit() else None


def switches(text: str) -> Stored:
    """`F:on`, `C:off`."""
    return text if re.fullmatch(r"[a-z0-9_]+:(?:on|off)", text) else None


_yes_no = one_of("yes", "no")
_items = pair(1)
_bytes = pair(1)
_pages = pair(PAGE)

#: Option -> (key of the configuration, how its value is read). Given twice, the first counts.
SCALARS: dict[str, tuple[str, t.Callable[[str], Stored]]] = {
    "ram": ("PHYSPAGES", easy_pages),
    "swap": ("SWAPPAGES", easy_pages),
    "physpages": ("PHYSPAGES", _pages),
    "swappages": ("SWAPPAGES", _pages),
    "vm_overcommit": ("VM_OVERCOMMIT", lambda text: text if re.fullmatch(r"\d+(\.\d+)?", text) else None),
    **{option: (option.upper(), _bytes) for option in ("kmemsize", "tcpsndbuf", "tcprcvbuf", "othersockbuf")},
    **{option: (option.upper(), _bytes) for option in ("dgramrcvbuf", "dcachesize")},
    **{option: (option.upper(), _pages) for option in ("lockedpages", "privvmpages", "shmpages")},
    **{option: (option.upper(), _pages) for option in ("vmguarpages", "oomguarpages")},
    **{option: (option.upper(), _items) for option in ("numproc", "numtcpsock", "numflock", "numpty", "numsiginfo")},
    **{option: (option.upper(), _items) for option in ("numothersock", "numfile", "numiptent", "avnumproc")},
    "cpus": ("CPUS", number(1)),
    "cpulimit": ("CPULIMIT", cpulimit),
    "cpuunits": ("CPUUNITS", number(8, 500000)),
    "cpumask": ("CPUMASK", lambda text: text if re.fullmatch(r"all|auto|[\d,-]+", text) else None),
    "nodemask": ("NODEMASK", lambda text: text if re.fullmatch(r"all|[\d,-]+", text) else None),
    "diskspace": ("DISKSPACE", pair(1024)),
    "diskinodes": ("DISKINODES", _items),
    "quotatime": ("QUOTATIME", number(0)),
    "quotaugidlimit": ("QUOTAUGIDLIMIT", number(0)),
    "diskquota": ("DISK_QUOTA", _yes_no),
    "mount_opts": ("MOUNT_OPTS", anything),
    "ioprio": ("IOPRIO", number(0, 7)),
    "iolimit": ("IOLIMIT", iolimit),
    "iopslimit": ("IOPSLIMIT", number(0)),
    "hostname": ("HOSTNAME", anything),  # not looked at: "bad host" is taken
    "onboot": ("ONBOOT", _yes_no),
    "bootorder": ("BOOTORDER", number(0)),
    "disabled": ("DISABLED", _yes_no),
    "name": ("NAME", name),
    "description": ("DESCRIPTION", anything),
    "features": ("FEATURES", switches),
    "capability": ("CAPABILITY", switches),
    "devices": ("DEVICES", anything),
    "devnodes": ("DEVNODES", lambda text: text if re.fullmatch(r".+:(?:none|[rwq]+)", text) else None),
    "netfilter": ("NETFILTER", one_of("disabled", "stateless", "stateful", "full")),
    "iptables": ("IPTABLES", anything),
    "pci_add": ("PCI", anything),
    "stop-timeout": ("STOP_TIMEOUT", number(0)),
    "ostemplate": ("OSTEMPLATE", anything),
    "root": ("VE_ROOT", anything),
    "private": ("VE_PRIVATE", anything),
    "local_uid": ("LOCAL_UID", number(0)),
    "local_gid": ("LOCAL_GID", number(0)),
}
