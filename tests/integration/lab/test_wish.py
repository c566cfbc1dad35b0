# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab refuses before it touches anything, and how it reads the ways to say which HostOSes."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from oscarv_lab import qemu, wish
from oscarv_lab.base import LabError, Report
from oscarv_lab.lab import Lab

GIVEN: dict[str, t.Any] = {
    "name": "demo",
    "dir": "/var/lib/oscarv-lab",
    "subnet": "10.88.0.0/24",
    "hosts": ["node01"],
    "suite": "bookworm",
    "capacity": {"vcpus": 4, "memory": "4 GiB", "disk": "20 GiB"},
    "sources": [],
    "packages": [],
    "nameservers": [],
    "wait_timeout": 120,
    "remove_hosts": False,
    "keep_cache": True,
    "inventory": "/tmp/hosts.yml",
    "marker": "# ours",
}


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        (3, ["node01", "node02", "node03"]),
        ("2", ["node01", "node02"]),
        ("a,b", ["a", "b"]),
        (["a", {"name": "b"}], ["a", "b"]),
        (100, ["node001", "node100"]),
    ],
)
def test_ways_to_say_which_hosts(hosts: t.Any, names: list[str]) -> None:
    found = list(wish.parse({**GIVEN, "hosts": hosts}).hosts)
    assert (found if len(found) < 100 else [found[0], found[-1]]) == names


def test_a_host_has_the_common_capacity_unless_it_says_otherwise() -> None:
    hosts = [{"name": "big", "capacity": {"memory": "64 GiB"}, "suite": "trixie"}, "small"]
    made = wish.parse({**GIVEN, "hosts": hosts}).hosts
    assert made["big"] == wish.HostWish("trixie", {"vcpus": 4, "memory": "64 GiB", "disk": "20 GiB"})
    assert made["small"] == wish.HostWish("bookworm", GIVEN["capacity"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Demo"}, "lab_name: 'Demo' is not 1 to 11 of"),
        ({"name": "a" * 12}, "lab_name: 'aaaaaaaaaaaa' is not 1 to 11 of"),
        ({"dir": "relative"}, "lab_dir: 'relative' is not an absolute path"),
        ({"dir": "/a,b"}, "lab_dir: '/a,b' is not an absolute path"),
        ({"dir": "/" + "x" * 60}, "is not an absolute path of at most 51"),
        ({"subnet": "10.88.0.1/24"}, "lab_subnet: '10.88.0.1/24' is not an IPv4 network"),
        ({"subnet": "fd00::/64"}, "lab_subnet: 'fd00::/64' is not an IPv4 network"),
        ({"subnet": "10.0.0.0/8"}, "lab_subnet: 10.0.0.0/8 has a prefix of /8; it can be /16 to /27"),
        ({"subnet": "10.88.0.0/27", "hosts": 21}, "room for 20 HostOSes (10.88.0.11 and up), not for 21"),
        ({"hosts": []}, "lab_hosts: [] names no HostOS"),
        ({"hosts": 0}, "lab_hosts: 0 names no HostOS"),
        ({"hosts": True}, "lab_hosts: True is neither a list nor a number"),
        ({"hosts": ["a", "a"]}, "lab_hosts: a: the name stands twice"),
        ({"hosts": ["localhost"]}, "lab_hosts: 'localhost' is not"),
        ({"hosts": ["a.b"]}, "lab_hosts: 'a.b' is not 1 to 32 of"),
        ({"hosts": [{"nam": "a"}]}, "lab_hosts: {'nam': 'a'} is neither a name nor a mapping"),
        ({"hosts": [{"name": "a", "suite": "12"}]}, "lab_hosts: a: the suite '12' is not the code name"),
        ({"suite": "../x"}, "lab_suite: the suite '../x' is not the code name"),
        ({"capacity": {"vcpus": 0, "memory": "1 GiB", "disk": "1 GiB"}}, "capacity vcpus 0 is not a positive number"),
        ({"capacity": {"vcpus": 1, "memory": 4, "disk": "1 GiB"}}, "capacity memory 4 is not a size with its unit"),
        ({"hosts": [{"name": "a", "capacity": {"ram": "1 GiB"}}]}, "lab_hosts: a: capacity has no ram"),
    ],
)
def test_refused(change: dict[str, t.Any], message: str) -> None:
    with pytest.raises(LabError) as error:
        wish.parse({**GIVEN, **change})
    assert message in str(error.value)


def test_all_errors_come_at_once_and_each_once() -> None:
    with pytest.raises(LabError) as error:
        wish.parse({**GIVEN, "name": "X", "subnet": "nonsense", "suite": "7", "hosts": 3})
    assert [x.split(":")[0] for x in str(error.value).splitlines()] == ["lab_name", "lab_suite", "lab_subnet"]


def test_a_machine_in_qemu_is_asked_for_by_name() -> None:
    asked = {"name": "node21", "machine": "qemu", "memory": "2304 MiB", "processors": 2}
    found = wish.parse({**GIVEN, "hosts": ["node01", asked, {"name": "node22", "machine": "qemu"}]}).hosts
    assert [(host.machine, host.memory, host.processors) for host in found.values()] == [
        ("nspawn", 2048, 1),
        ("qemu", 2304, 2),
        ("qemu", 2048, 1),
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"machine": "vmware"}, "machine 'vmware'; allowed: nspawn, qemu"),
        ({"machine": "qemu", "memory": "lots"}, "memory 'lots' is not a size in MiB or GiB"),
        ({"memory": "2 GiB"}, "memory is of machines in QEMU"),
        ({"processors": 2}, "processors is of machines in QEMU"),
        ({"machine": "qemu", "processors": 0}, "processors '0' is not a positive number"),
        ({"cpu": "max"}, "neither a name nor a mapping of name, suite, capacity, machine, memory and processors"),
    ],
)
def test_other_machines_are_refused(entry: dict[str, str], words: str) -> None:
    with pytest.raises(LabError, match=words):
        wish.parse({**GIVEN, "hosts": [{"name": "node21", **entry}]})


def test_links_of_machines_have_names_that_a_kernel_takes() -> None:
    names = {qemu.tap_name("a-long-name", f"node{number}") for number in range(100)}
    assert len(names) == 100 and all(len(name) <= 15 for name in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"memory": "3 GiB"},
            "has 2304 MiB of memory and 2 processors, not 3072 MiB of memory and 2 processors; remove it first",
        ),
        (
            {"processors": 1},
            "has 2304 MiB of memory and 2 processors, not 2304 MiB of memory and 1 processors; remove it first",
        ),
    ],
)
def test_a_machine_that_stands_with_another_size_is_refused(
    tmp_path: pathlib.Path, change: dict[str, t.Any], message: str
) -> None:
    """It would go on with the old one and say nothing."""
    asked = {"name": "node21", "machine": "qemu", "memory": "2304 MiB", "processors": 2}
    stands = {"address": "10.88.0.11", "suite": "bookworm", "machine": "qemu", "rootfs": "/disk", "memory": 2304}
    record = tmp_path / "lab.json"
    record.write_text(json.dumps({"subnet": "10.88.0.0/24", "hosts": {"node21": {**stands, "processors": 2}}}))
    before = record.read_bytes()

    def decide(host: dict[str, t.Any], check: bool) -> None:
        lab = Lab(wish.parse({**GIVEN, "hosts": [host]}), Report(check))
        lab.directory = tmp_path
        lab._decide()

    decide(asked, check=True)
    with pytest.raises(LabError, match=f"lab_hosts: node21 of lab demo {message}"):
        decide({**asked, **change}, check=False)
    assert record.read_bytes() == before
