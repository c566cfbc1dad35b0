# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this scenario's tests ask of OpenVZ's HostOSes."""

from __future__ import annotations

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


def containers(host: str) -> dict[str, tuple[str, str]]:
    """Name -> (number, status) of every container of a HostOS."""
    said = machine(host).run("vzlist -a -H -o ctid,name,status")
    assert said.rc == 0 or "not found" in said.stderr  # vzlist fails where there is none
    rows = said.stdout.splitlines()
    return {name: (ctid, status) for ctid, name, status in (row.split() for row in rows)}


def running() -> dict[str, list[str]]:
    """Container -> the HostOSes on which it runs; LXC, which runs them, is asked, not the double."""
    found: dict[str, list[str]] = {}
    for host in HOSTS:
        listed = machine(host).check_output("lxc-ls -P /vz/double/lxc --active -1").split()
        for name, (ctid, _status) in containers(host).items():
            if ctid in listed:
                found.setdefault(name, []).append(host)
    return found
