# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's domain XML says that other domains say otherwise: its processors and its disks."""

from __future__ import annotations

import xml.etree.ElementTree as ET

#: Microseconds in which a container may use each of its processors once.
PERIOD = 100_000
#: As many as libvirt lets a domain have; a limit on processor time may be any number of processors.
MOST_VCPUS = 1024
DATA = "/mnt"


def mount_of(name: str) -> str:
    """Where a disk is seen in the container."""
    return "/" if name == "root" else f"{DATA}/{name}"


def name_of(mount: str) -> str | None:
    """The disk that is seen there; None for what others mounted."""
    if mount == "/":
        return "root"
    return mount[len(DATA) + 1 :] if mount.startswith(f"{DATA}/") else None


def processors(domain: ET.Element) -> int | None:
    """How many processors the quota is worth, rounded up; None where there is no quota."""
    period, quota = domain.findtext("cputune/period"), domain.findtext("cputune/quota")
    if not period or not quota or int(quota) <= 0:
        return None
    return -(-int(quota) // int(period))
