# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of vzlist: header, width, how each is printed as text and as JSON."""

from __future__ import annotations

import dataclasses
import typing as t

from .container import Container
from .values import UNLIMITED, size

_UBC = (
    "kmemsize lockedpages privvmpages shmpages numproc physpages vmguarpages oomguarpages numtcpsock numflock numpty"
    " numsiginfo tcpsndbuf tcprcvbuf othersockbuf dgramrcvbuf numothersock dcachesize numfile numiptent swappages"
)
_PAGES = ("lockedpages", "privvmpages", "shmpages", "physpages", "vmguarpages", "oomguarpages", "swappages")


class Row:
    """One container, looked at once."""

    def __init__(self, ct: Container) -> None:
        self.ct = ct
        if ct.running:
            self.status = "running"
        elif ct.mounted:  # also one with a dump
            self.status = "mounted"
        else:
            self.status = "suspended" if ct.suspended else "stopped"


@dataclasses.dataclass(frozen=True)
class Field:
    header: str
    width: int  #: negative: to the left
    text: t.Callable[[Row], str]
    json: t.Callable[[Row], str]

    def head(self) -> str:
        return _wide(self.header, self.width)

    def cell(self, row: Row) -> str:
        return _wide(self.text(row), self.width)


def _wide(text: str, width: int) -> str:
    return text.ljust(-width) if width < 0 else text.rjust(width)


def _quoted(text: str | None) -> str:
    """The trap: nothing is escaped."""
    return "null" if text is None else f'"{text}"'


def _string(key: str, header: str, width: int = -32) -> Field:
    return Field(
        header, width, lambda row: row.ct.conf.get(key) or "-", lambda row: _quoted(row.ct.conf.get(key) or None)
    )


def _list(key: str, header: str) -> Field:
    return Field(
        header,
        -15,
        lambda row: (row.ct.conf.get(key) or "-").split()[0],
        lambda row: "[" + ", ".join(f'"{word}"' for word in row.ct.conf.get(key, "").split()) + "]",
    )


def _number(key: str, header: str, width: int, unset: str) -> Field:
    return Field(header, width, lambda row: row.ct.conf.get(key) or "-", lambda row: row.ct.conf.get(key) or unset)


def _switch(key: str, header: str, unset: str) -> Field:
    words = {"yes": "true", "no": "false"}
    return Field(
        header, 6, lambda row: row.ct.conf.get(key) or "-", lambda row: words.get(row.ct.conf.get(key, ""), unset)
    )


def _parts(row: Row, key: str, unit: int) -> tuple[int, int]:
    numbers = [size(part, unit) for part in row.ct.conf.get(key, "").split(":")]
    return numbers[0] or 0, numbers[-1] or 0


def _ubc(name: str) -> Field:
    key, unit = name.upper(), 4096 if name in _PAGES else 1

    def as_json(row: Row) -> str:
        barrier, limit = _parts(row, key, unit) if row.ct.conf.get(key) else (UNLIMITED, UNLIMITED)
        held = 1 if row.status == "running" else 0
        values = {"held": held, "maxheld": held, "barrier": barrier, "limit": limit, "failcnt": 0}
        return "{\n" + ",\n".join(f'      "{word}": {value}' for word, value in values.items()) + "\n    }"

    return Field(
        "NPROC" if name == "numproc" else name.upper(), 10, lambda row: "1" if row.status == "running" else "-", as_json
    )


def _disk(name: str, unit: int) -> Field:
    key = name.upper()

    def as_json(row: Row) -> str:
        soft, hard = _parts(row, key, unit)
        return f'{{\n      "usage": 0,\n      "softlimit": {soft},\n      "hardlimit": {hard}\n    }}'

    return Field(name.upper(), 10, lambda row: "-", as_json)


def _ctid(header: str) -> Field:
    return Field(header, 10, lambda row: str(row.ct.ctid), lambda row: str(row.ct.ctid))


def _smart(row: Row) -> str:
    return row.ct.conf.get("NAME") or str(row.ct.ctid)


def _constant(header: str, text: str, value: str) -> Field:
    return Field(header, 5, lambda row: text, lambda row: value)


def _has_vswap(row: Row) -> str:
    return "true" if row.ct.conf.get("PHYSPAGES") and _parts(row, "PHYSPAGES", 4096)[1] < UNLIMITED else "false"


FIELDS: dict[str, Field] = {
    "ctid": _ctid("CTID"),
    "veid": _ctid("CTID"),
    "vpsid": _ctid("CTID"),
    "private": _string("VE_PRIVATE", "PRIVATE"),
    "root": _string("VE_ROOT", "ROOT"),
    "mount_opts": _string("MOUNT_OPTS", "MOUNT_OPTS", -16),
    "origin_sample": _string("ORIGIN_SAMPLE", "ORIGIN_SAMPLE"),
    "hostname": _string("HOSTNAME", "HOSTNAME"),
    "name": _string("NAME", "NAME"),
    "smart_name": Field(
        "SMARTNAME", 10, _smart, lambda row: _smart(row) if _smart(row).isdigit() else f'"{_smart(row)}"'
    ),
    "description": _string("DESCRIPTION", "DESCRIPTION"),
    "ostemplate": _string("OSTEMPLATE", "OSTEMPLATE"),
    "ip": _list("IP_ADDRESS", "IP_ADDR"),
    "nameserver": _list("NAMESERVER", "NAMESERVER"),
    "searchdomain": _list("SEARCHDOMAIN", "SEARCHDOMAIN"),
    "status": Field("STATUS", -9, lambda row: row.status, lambda row: f'"{row.status}"'),
    **{name: _ubc(name) for name in _UBC.split()},
    "diskspace": _disk("diskspace", 1024),
    "diskinodes": _disk("diskinodes", 1),
    "laverage": _constant("LAVERAGE", "-", "null"),
    "uptime": _constant("UPTIME", "-", "0.000"),
    "cpulimit": _number("CPULIMIT", "CPULIM", 7, "0"),
    "cpuunits": _number("CPUUNITS", "CPUUNI", 7, "0"),
    "cpus": _number("CPUS", "CPUS", 5, "0"),
    "ioprio": _number("IOPRIO", "IOP", 3, "0"),
    "iolimit": _number("IOLIMIT", "IOLIMIT", 10, "0"),
    "iopslimit": _number("IOPSLIMIT", "IOPSLIMIT", 10, "0"),
    "onboot": _switch("ONBOOT", "ONBOOT", "null"),
    "bootorder": _number("BOOTORDER", "BOOTORDER", 10, "null"),
    "layout": _string("VE_LAYOUT", "LAYOUT", -6),
    "features": _string("FEATURES", "FEATURES", -15),
    "vswap": Field("VSWAP", 5, lambda row: "yes" if _has_vswap(row) == "true" else "no", _has_vswap),
    "disabled": _switch("DISABLED", "DISABL", "false"),
    "vm_overcommit": _number("VM_OVERCOMMIT", "VM_OVC", 6, "0"),
    "netfilter": _string("NETFILTER", "NETFILTER", -10),
    "capability": _string("CAPABILITY", "CAPABILITY", -15),
}
#: What -j prints without -o, in this order.
JSON = tuple(FIELDS)
#: Columns of one number of a resource; in text only.
_SUFFIXES = {"": "", ".m": ".M", ".b": ".B", ".l": ".L", ".f": ".F"}
FIELDS.update(
    {
        f"{name}{suffix}": dataclasses.replace(FIELDS[name], header=f"{name.upper()}{head}")
        for name in _UBC.split()
        for suffix, head in _SUFFIXES.items()
        if suffix
    }
)
