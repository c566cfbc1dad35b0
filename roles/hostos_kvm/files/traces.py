# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role hostos_kvm has left on this machine, and the guests that stand on it. Changes nothing.

The only argument is JSON: uri, files [path], blocks [path], marker, units [name]. Prints JSON: libvirt (it answers),
ours and guests [name] (defined here, of this collection and at all), files, blocks and units (those that are there),
certificates.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

GUEST_MARK = "urn:oscarv:virt:guest:1"
MANIFEST = "/etc/pki/oscarv/manifest.json"


def guests(uri: str) -> tuple[list[str], list[str]] | None:
    """Names of this collection's guests and of all guests; None where there is no libvirt."""
    try:
        import libvirt
    except ImportError:
        return None
    if uri.startswith("xen:") and not os.path.exists("/proc/xen/capabilities"):
        return None  # this machine was booted without Xen: no guest can be
    connection = libvirt.openReadOnly(uri)
    try:
        domains = connection.listAllDomains(0)
        ours = [domain.name() for domain in domains if GUEST_MARK in domain.XMLDesc(0)]
        return ours, [domain.name() for domain in domains]
    finally:
        connection.close()


def enabled(unit: str) -> bool:
    shown = subprocess.run(
        ["systemctl", "show", "--property=UnitFileState", "--value", unit], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() == "enabled"


def holds(path: str, text: str) -> bool:
    try:
        return text in pathlib.Path(path).read_text()
    except FileNotFoundError:
        return False


def main() -> None:
    wish = json.loads(sys.argv[1])
    found = guests(wish["uri"])
    ours, everyone = found or ([], [])
    answer = {
        "libvirt": found is not None,
        "ours": ours,
        "guests": everyone,
        "files": [path for path in wish["files"] if os.path.lexists(path)],
        "blocks": [path for path in wish["blocks"] if holds(path, f"# BEGIN {wish['marker']}\n")],
        "units": [unit for unit in wish["units"] if enabled(unit)],
        "certificates": os.path.exists(MANIFEST),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
