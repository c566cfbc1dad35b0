# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at every point of every change: the next run makes it good, nothing is left over, nothing is there twice."""

from __future__ import annotations

import functools
import pathlib
import signal
import subprocess
import time
import typing as t
import xml.etree.ElementTree as ET

import libvirt
import pytest
from killing import killed_before
from run_module import start_module

if t.TYPE_CHECKING:
    from conftest import HostOS

MIB = 2**20
#: No change does more things than this; a sweep that goes on has gone wrong.
_MOST = 120


def specs(host: HostOS, name: str) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]], dict[str, t.Any]]:
    """(before, after, options) of a change."""
    root = host.spec()["disks"][0]
    data = {"name": "data", "size": 4 * MIB, "pool": "local"}
    running = host.spec(state="running")
    with_data = host.spec(state="running", disks=[root, data])
    stopped_data = host.spec(disks=[root, data])
    newer = {**root, "build_id": host.builds[1]}
    return {
        "create": ([], [stopped_data], {}),
        "start": ([host.spec()], [running], {}),
        "absent": ([stopped_data], [host.spec(state="absent")], {}),
        "absent, disks too": ([with_data], [host.spec(state="absent")], {"remove_disks": True}),
        "stop": ([running], [host.spec(state="stopped")], {}),
        "rebuild": ([stopped_data], [host.spec(disks=[newer, data], recreate=True)], {}),
        "rename": ([stopped_data], [{**stopped_data, "name": "other"}], {}),
        "add a disk and a NIC": ([running], [{**with_data, "nics": [host.nic(1), host.nic(1, "eth1")]}], {}),
        "add a disk, stopped": ([host.spec()], [stopped_data], {}),
        "detach a disk, stopped": ([stopped_data], [host.spec()], {}),
        "remove a disk, stopped": ([stopped_data], [host.spec()], {"remove_disks": True}),
        "grow and plug": (
            [running],
            [{**running, "vcpus": 2, "memory": 48 * MIB, "epoch": 2, "disks": [{**root, "size": 40 * MIB}]}],
            {},
        ),
        "restart": ([running], [{**running, "cpu": {"model": "Nehalem"}, "vcpus": 12}], {"allow_restart": True}),
        "eject": ([running], [running], {"contacted": ["wn001"]}),
    }[name]


NAMES = (
    "create",
    "start",
    "absent",
    "absent, disks too",
    "stop",
    "rebuild",
    "rename",
    "add a disk and a NIC",
    "add a disk, stopped",
    "detach a disk, stopped",
    "remove a disk, stopped",
    "grow and plug",
    "restart",
    "eject",
)


def picture(host: HostOS) -> tuple[t.Any, ...]:
    """Everything that two HostOSes in the same state have in common."""
    guests = []
    for one in host.info()["guests"].values():
        kept = {key: value for key, value in one.items() if key not in ("host_key", "disks")}
        disks = [{key: disk[key] for key in ("name", "path", "size", "backing")} for disk in one["disks"]]
        guests.append((kept, disks, bool(one["host_key"])))
    files = {name for name in host.files() if not name.endswith(".claim.json")}
    claims = {name: "x" for name in host.files() if name.endswith(".claim.json")}
    return guests, files, claims


def missing(host: HostOS) -> list[str]:
    """Files that domains name and that are not there."""
    with host.libvirt() as connection:
        configurations = [domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for domain in connection.listAllDomains()]
    sources = [source for xml in configurations for source in ET.fromstring(xml).findall("devices/disk/source")]
    return [path for path in (source.get("file", "") for source in sources) if not pathlib.Path(path).exists()]


@pytest.mark.parametrize("name", NAMES)
def test_killed_anywhere_and_run_again(host: HostOS, name: str) -> None:
    before, after, options = specs(host, name)
    expected = undisturbed(host, before, after, options)
    for number in range(_MOST):
        host.daemon.clear_guests()
        made(host, before)
        if not killed_before(number, functools.partial(host.guest, after, **options)):
            assert number > 2, "nothing was killed"
            return
        assert missing(host) == [], f"killed before thing {number}: a domain names files that are not there"
        done = host.guest(after, **options)
        assert not done.get("failed"), f"killed before thing {number}: {done['msg']}"
        assert picture(host) == expected, f"killed before thing {number}"
        again = host.guest(after, **options, check=True)
        assert not again["changed"], f"killed before thing {number}: {again['guests']}"
    pytest.fail(f"more than {_MOST} things")


def undisturbed(
    host: HostOS, before: list[dict[str, t.Any]], after: list[dict[str, t.Any]], options: dict[str, t.Any]
) -> tuple[t.Any, ...]:
    made(host, before)
    done = host.guest(after, **options)
    assert not done.get("failed"), done
    assert not host.guest(after, **options)["changed"]
    return picture(host)


def made(host: HostOS, wish: list[dict[str, t.Any]]) -> None:
    if wish:
        done = host.guest(wish)
        assert not done.get("failed"), done


def test_an_interrupted_rebuild_is_not_started_without_consent(host: HostOS) -> None:
    before, after, _options = specs(host, "rebuild")
    refusals = 0
    for number in range(_MOST):
        host.daemon.clear_guests()
        made(host, before)
        if not killed_before(number, functools.partial(host.guest, after)):
            break
        done = host.guest([{**after[0], "recreate": False, "state": "running"}], check=True)
        if done.get("failed"):
            assert "a rebuild was interrupted" in done["msg"]
            refusals += 1
        else:
            info = host.info()["guests"][host.spec()["uuid"]]
            assert info["build_id"] in info["disks"][0]["backing"], "the disk is not what the mark says"
    assert refusals > 0


def test_killed_while_many_guests_are_made(host: HostOS) -> None:
    """The real thing: a process from outside, at no particular moment."""
    wish = [host.spec(number, state="running" if number % 4 == 0 else "stopped") for number in range(1, 21)]
    for seconds in (0.9, 1.2, 1.6):
        host.daemon.clear_guests()
        process = start_module("guest", host.arguments(wish))
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = host.guest(wish)
        assert not done.get("failed"), done["msg"]
        assert not host.guest(wish)["changed"]
        assert host.files() == {f"tkvm/wn{n:03}-{what}" for n in range(1, 21) for what in ("root.qcow2", "seed.iso")}
        states = {one["name"]: one["state"] for one in host.info()["guests"].values()}
        assert states == {spec["name"]: spec["state"] for spec in wish}
        assert list((host.state_dir / "seeds").iterdir()) == []


def test_a_second_job_waits_for_the_first_and_gives_up(host: HostOS) -> None:
    host.guest([host.spec()])
    lock = host.state_dir / "lock"
    with subprocess.Popen(["flock", str(lock), "sleep", "30"]) as holder:
        time.sleep(0.3)
        refused = host.guest([host.spec(2)], lock_timeout=0.5)
        checked = host.guest([host.spec(2)], lock_timeout=0.5, check=True)
        holder.kill()
    assert "the guests of this HostOS are being changed by" in refused["msg"]
    assert checked["changed"], "looking needs no lock"
