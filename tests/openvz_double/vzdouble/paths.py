# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the files are. Paths in messages and configurations are the real tool's; `real` finds them on disk."""

from __future__ import annotations

import os
import pathlib

CONF_DIR = "/etc/vz/conf"
NAMES_DIR = "/etc/vz/names"
GLOBAL_CONF = "/etc/vz/vz.conf"
FAULTS = "/etc/vz/double.faults"
PROC = "/proc/vz"
#: Where /proc/vz lies on a lab HostOS.
KERNEL = "/var/lib/openvz-double"

#: What vz.conf says where it says nothing.
DEFAULTS = {
    "VE_ROOT": "/vz/root/$VEID",
    "VE_PRIVATE": "/vz/private/$VEID",
    "TEMPLATE": "/vz/template",
    "LOCKDIR": "/vz/lock",
    "DUMPDIR": "/vz/dump",
    "CONFIGFILE": "vswap-256m",
    "VE_LAYOUT": "simfs",
}


def real(path: str) -> pathlib.Path:
    """Nobody can make files in /proc: what the kernel would show there lies in a folder of its own."""
    root = os.environ.get("OPENVZ_DOUBLE_ROOT", "")
    if not root and path.startswith("/proc/"):
        root = KERNEL
    return pathlib.Path(root + path)


def conf_path(ctid: int) -> str:
    return f"{CONF_DIR}/{ctid}.conf"
