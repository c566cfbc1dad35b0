# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this scenario's tests ask of KVM's HostOSes."""

from __future__ import annotations

import re
import typing as t

import pytest
from scenario import Cluster, machine

HOSTS = ("node01", "node02")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(params=HOSTS)
def hostos(request: pytest.FixtureRequest) -> t.Any:
    return machine(request.param)


def domains(name: str) -> dict[str, str]:
    """Domain -> state on one HostOS, as libvirt itself says."""
    listing = machine(name).check_output("virsh -r -c qemu:///system list --all").splitlines()[2:]
    rows = [line.split(None, 2) for line in listing if line.strip()]
    return {row[1]: row[2].strip() for row in rows}


def running() -> dict[str, list[str]]:
    """Guest -> the HostOSes on which a QEMU process of it runs; the processes are asked, not libvirt."""
    found: dict[str, list[str]] = {}
    for name in HOSTS:
        text = machine(name).check_output("ps -eo args --no-headers -ww")
        for guest in re.findall(r"^\S*qemu-system-\S+ -name guest=([^,]+),", text, re.M):
            found.setdefault(guest, []).append(name)
    return found
