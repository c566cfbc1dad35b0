# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files: read as shell, rewritten in place with comments kept, new keys at the end."""

from __future__ import annotations

import os
import re
import typing as t

from . import paths

_LINE = re.compile(r"""^\s*([A-Za-z_][A-Za-z0-9_]*)=(?:"([^"]*)"|'([^']*)'|(\S*))""")

#: The order in which new keys are appended; the recorded configurations show it.
ORDER = [
    "KMEMSIZE",
    "LOCKEDPAGES",
    "PRIVVMPAGES",
    "SHMPAGES",
    "NUMPROC",
    "PHYSPAGES",
    "VMGUARPAGES",
    "OOMGUARPAGES",
    "NUMTCPSOCK",
    "NUMFLOCK",
    "NUMPTY",
    "NUMSIGINFO",
    "TCPSNDBUF",
    "TCPRCVBUF",
    "OTHERSOCKBUF",
    "DGRAMRCVBUF",
    "NUMOTHERSOCK",
    "DCACHESIZE",
    "NUMFILE",
    "NUMIPTENT",
    "AVNUMPROC",
    "SWAPPAGES",
    "VM_OVERCOMMIT",
    "DISK_QUOTA",
    "DISKSPACE",
    "DISKINODES",
    "QUOTATIME",
    "QUOTAUGIDLIMIT",
    "IP_ADDRESS",
    "HOSTNAME",
    "DESCRIPTION",
    "VE_ROOT",
    "VE_PRIVATE",
    "VE_LAYOUT",
    "MOUNT_OPTS",
    "OSTEMPLATE",
    "ORIGIN_SAMPLE",
    "NAME",
    "CPUUNITS",
    "CPULIMIT",
    "CPUS",
    "CPUMASK",
    "NODEMASK",
    "IOPRIO",
    "IOLIMIT",
    "IOPSLIMIT",
    "NETFILTER",
    "IPTABLES",
    "CAPABILITY",
    "FEATURES",
    "DEVICES",
    "DEVNODES",
    "PCI",
    "NETDEV",
    "NETIF",
    "NAMESERVER",
    "SEARCHDOMAIN",
    "ONBOOT",
    "BOOTORDER",
    "DISABLED",
    "STOP_TIMEOUT",
    "LOCAL_UID",
    "LOCAL_GID",
]


def read(path: str) -> dict[str, str] | None:
    """None: no such file."""
    try:
        text = paths.real(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            key, *values = match.groups()
            found[key] = next((value for value in values if value is not None), "")
    return found


def write(path: str, changes: t.Mapping[str, str], sample: str = "") -> None:
    """Change keys where they stand and append new ones. `sample`: what a new file begins with."""
    target = paths.real(path)
    text = target.read_text(encoding="utf-8", errors="surrogateescape") if target.exists() else sample
    left = dict(changes)
    lines = []
    for line in text.splitlines():
        match = _LINE.match(line)
        key = match.group(1) if match else ""
        lines.append(f'{key}="{left.pop(key)}"' if key in left else line)
    lines += [f'{key}="{left[key]}"' for key in sorted(left, key=_position)]
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".tmp")
    scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
    os.replace(scratch, target)


def _position(key: str) -> int:
    return ORDER.index(key) if key in ORDER else len(ORDER)


def global_conf() -> dict[str, str]:
    return {**paths.DEFAULTS, **(read(paths.GLOBAL_CONF) or {})}


def expand(value: str, ctid: int) -> str:
    return value.replace("${VEID}", str(ctid)).replace("$VEID", str(ctid))
