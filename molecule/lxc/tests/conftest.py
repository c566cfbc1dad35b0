# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this scenario's tests ask of LXC's HostOSes."""

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


def inits(host: str) -> dict[str, int]:
    """Container -> its init on a HostOS; the processes are asked, not libvirt."""
    find = (
        "for x in /proc/[0-9]*; do grep -az '^LIBVIRT_LXC_NAME=' $x/environ 2>/dev/null"
        " | tr '\\0' ' ' | sed \"s|$| ${x#/proc/}|\"; done"
    )
    text = machine(host).check_output("sh -c %s", find)
    found = re.findall(r"LIBVIRT_LXC_NAME=(\S+) +(\d+)", text)
    return {name: int(pid) for name, pid in sorted(found, key=lambda one: -int(one[1]))}


def running() -> dict[str, list[str]]:
    """Container -> the HostOSes on which it runs."""
    found: dict[str, list[str]] = {}
    for host in HOSTS:
        for name in inits(host):
            found.setdefault(name, []).append(host)
    return found
