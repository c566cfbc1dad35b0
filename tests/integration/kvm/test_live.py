# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of guests that run. Where a guest has to do its part, it is a small Linux; else an empty disk will do."""

from __future__ import annotations

import pathlib
import subprocess
import time
import typing as t

import libvirt
import pytest

if t.TYPE_CHECKING:
    from conftest import HostOS

MIB = 2**20


class Alive:
    """Guest wn001, which runs."""

    def __init__(self, host: HostOS, build_id: str) -> None:
        self.host = host
        root = {"name": "root", "size": 96 * MIB, "pool": "local", "build_id": build_id}
        self.spec = host.spec(state="running", memory=128 * MIB, disks=[root])
        self.uuid = self.spec["uuid"]

    def start(self) -> None:
        assert self.host.guest([self.spec])["guests"]["wn001"]["state"] == "running"

    def change(self, *, wait: bool = False, **changes: t.Any) -> dict[str, t.Any]:
        """Change the spec: check, run, run again. `wait`: a restart is expected to be required."""
        options = {key: changes.pop(key) for key in ("allow_restart", "remove_disks", "contacted") if key in changes}
        self.spec = {**self.spec, **changes}
        before = self.native()
        checked = self.host.guest([self.spec], check=True, **options)
        assert self.native() == before, "check mode changed something"
        done = self.host.guest([self.spec], **options)
        assert not done.get("failed"), done["msg"]
        one = t.cast("dict[str, t.Any]", done["guests"]["wn001"])
        assert checked["guests"]["wn001"]["steps"] == one["steps"]
        assert checked["guests"]["wn001"]["changed"] is one["changed"] is True
        assert checked["diff"] == done["diff"]
        assert checked["guests"]["wn001"]["restart_required"] is one["restart_required"] is wait
        assert self.host.guest([self.spec], check=True)["changed"] is False
        again = self.host.guest([self.spec])
        assert (again["changed"], again["restart_required"]) == (False, ["wn001"] if wait else [])
        return one

    def native(self) -> tuple[str, str, int]:
        with self.host.libvirt() as connection:
            domain = connection.lookupByUUIDString(self.uuid)
            return domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.autostart()

    def info(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.host.info()["guests"][self.uuid])

    @property
    def id(self) -> int:
        """Changes when QEMU is started anew."""
        with self.host.libvirt() as connection:
            return int(connection.lookupByUUIDString(self.uuid).ID())


@pytest.fixture
def alive(host: HostOS, tiny: pathlib.Path) -> Alive:
    """It has booted a Linux that lets go of devices and heeds the power button."""
    made = Alive(host, host.take_build(tiny))
    made.start()
    host.wait_for_console("beacon: up")
    return made


@pytest.fixture
def hollow(host: HostOS) -> Alive:
    """It has nothing to boot."""
    made = Alive(host, host.builds[0])
    made.start()
    return made


def test_vcpus_and_memory(hollow: Alive) -> None:
    running = hollow.id
    assert hollow.change(vcpus=3)["steps"] == ["plug vCPUs: 1 -> 3", "define"]
    assert (hollow.info()["vcpus"], hollow.info()["vcpus_live"]) == (3, 3)
    assert hollow.change(memory=100 * MIB)["steps"] == ["balloon: 128 -> 100 MiB", "define"]
    assert hollow.info()["memory"] == 100 * MIB
    # Less vCPUs, more than eight, and more memory than QEMU was started with, wait for a restart.
    assert hollow.change(vcpus=2, wait=True)["steps"] == ["define"]
    assert (hollow.info()["vcpus"], hollow.info()["vcpus_live"]) == (2, 3)
    assert hollow.change(memory=160 * MIB, vcpus=10, wait=True)["steps"] == ["define"]
    assert hollow.id == running
    done = hollow.change(partition="others", allow_restart=True)
    assert done["steps"] == ["shut down", "define", "start"]
    assert hollow.id != running
    info = hollow.info()
    assert (info["vcpus_live"], info["memory_live"], info["partition"]) == (10, 160 * MIB, "others")


def test_what_waits_for_a_restart_is_restarted_only_with_consent(hollow: Alive) -> None:
    running = hollow.id
    hollow.change(cpu={"model": "Nehalem"}, wait=True)
    assert hollow.id == running
    checked = hollow.host.guest([hollow.spec], check=True, allow_restart=True)["guests"]["wn001"]
    done = hollow.host.guest([hollow.spec], allow_restart=True)["guests"]["wn001"]
    assert checked["steps"] == done["steps"] == ["shut down", "start"]
    assert (done["changed"], done["restart_required"]) == (True, False)
    assert not hollow.host.guest([hollow.spec], allow_restart=True)["changed"]


def test_a_restart_by_the_user_counts_too(hollow: Alive) -> None:
    hollow.change(cpu={"model": "Nehalem"}, wait=True)
    with hollow.host.libvirt() as connection:
        domain = connection.lookupByUUIDString(hollow.uuid)
        domain.destroy()
        domain.create()
    assert hollow.host.guest([hollow.spec])["restart_required"] == []


def test_nics(alive: Alive) -> None:
    running = alive.id
    first, second = alive.host.nic(1), alive.host.nic(1, "eth1")
    assert alive.change(nics=[first, second])["steps"] == [
        f"plug NIC {second['mac']} into {second['bridge']}",
        "define",
    ]
    assert [nic["name"] for nic in alive.info()["nics"]] == ["eth0", "eth1"]
    other = {**second, "bridge": alive.host.bridges[1]}
    assert alive.change(nics=[first, other])["steps"] == [f"connect NIC {other['mac']} to {other['bridge']}", "define"]
    with alive.host.libvirt() as connection:
        assert f"bridge='{other['bridge']}'" in connection.lookupByUUIDString(alive.uuid).XMLDesc()
    alive.change(nics=[first, {**other, "addresses": ["10.99.0.1/24"]}])
    assert alive.info()["nics"][1]["addresses"] == ["10.99.0.1/24"]
    started = time.monotonic()
    assert alive.change(nics=[first])["steps"] == [f"unplug NIC {other['mac']}", "define"]
    assert time.monotonic() - started < 4.5, "the guest let go of it, libvirt did not wait in vain"
    assert [nic["mac"] for nic in alive.info()["nics"]] == [first["mac"]]
    alive.change(nics=[{**first, "mtu": 1400}], wait=True)
    assert alive.id == running


def test_a_nic_that_a_person_added_stays(hollow: Alive) -> None:
    parts = f"<mac address='52:54:00:ff:ff:01'/><source bridge='{hollow.host.bridges[1]}'/><model type='virtio'/>"
    xml = f"<interface type='bridge'>{parts}</interface>"
    with hollow.host.libvirt() as connection:
        both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        connection.lookupByUUIDString(hollow.uuid).attachDeviceFlags(xml, both)
    assert not hollow.host.guest([hollow.spec])["changed"]
    hollow.change(nics=[hollow.host.nic(1), hollow.host.nic(1, "eth1")])
    assert "52:54:00:ff:ff:01" in [nic["mac"] for nic in hollow.info()["nics"]]


def test_a_secret_survives_a_redefinition(hollow: Alive) -> None:
    with hollow.host.libvirt() as connection:
        xml = connection.lookupByUUIDString(hollow.uuid).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        graphics = "<graphics type='vnc' passwd='geheim'/></devices>"
        connection.defineXML(xml.replace("</devices>", graphics))
    hollow.change(vcpus=2)
    with hollow.host.libvirt() as connection:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        assert "passwd='geheim'" in connection.lookupByUUIDString(hollow.uuid).XMLDesc(flags)


def sizes(alive: Alive) -> dict[str, int]:
    with alive.host.libvirt() as connection:
        domain = connection.lookupByUUIDString(alive.uuid)
        return {disk["name"]: domain.blockInfo(disk["target"])[0] for disk in alive.info()["disks"]}


def test_disks(alive: Alive) -> None:
    running = alive.id
    root = alive.spec["disks"][0]
    scratch = {"name": "scratch", "size": 8 * MIB, "pool": "local"}
    done = alive.change(disks=[{**root, "size": 128 * MIB}, scratch])
    assert done["steps"] == [
        "create disk scratch",
        "grow disk root: 100663296 -> 134217728 bytes",
        "attach disk scratch",
        "define",
    ]
    assert sizes(alive) == {"root": 128 * MIB, "scratch": 8 * MIB}
    grown = alive.change(disks=[{**root, "size": 128 * MIB}, {**scratch, "size": 16 * MIB}])
    assert grown["steps"] == ["grow disk scratch: 8388608 -> 16777216 bytes"]
    shrink = alive.host.guest([{**alive.spec, "disks": [root, scratch]}])
    assert "a disk is never shrunk" in shrink["msg"]
    # A disk that leaves the spec is detached and kept, and found again.
    only_root = [{**root, "size": 128 * MIB}]
    assert alive.change(disks=only_root)["steps"] == ["detach disk scratch", "define"]
    assert "tkvm/wn001-scratch.qcow2" in alive.host.files()
    back = alive.change(disks=[*only_root, {**scratch, "size": 24 * MIB}])["steps"]
    assert back == ["grow disk scratch: 16777216 -> 25165824 bytes", "attach disk scratch", "define"]
    gone = alive.change(disks=only_root, remove_disks=True)["steps"]
    assert gone[:2] == ["detach disk scratch", "define"]
    assert gone[2].startswith("delete disk scratch: ")
    assert alive.host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso"}
    assert alive.id == running


def test_a_guest_that_does_not_let_go_keeps_its_file_until_it_does(host: HostOS) -> None:
    """Without an operating system nobody answers the request to let a device go."""
    scratch = {"name": "scratch", "size": 8 * MIB, "pool": "local"}
    both = host.spec(state="running", disks=[*host.spec()["disks"], scratch])
    host.guest([both])
    one = host.spec(state="running")
    done = host.guest([one], remove_disks=True)
    assert done["restart_required"] == ["wn001"]
    assert "tkvm/wn001-scratch.qcow2" in host.files()
    assert host.guest([one])["changed"] is False, "nothing can be done yet"
    after = host.guest([{**one, "state": "stopped"}])["guests"]["wn001"]
    assert after["steps"] == ["shut down", "switch autostart off"]
    final = host.guest([{**one, "state": "stopped"}])["guests"]["wn001"]
    assert [step.split(":")[0] for step in final["steps"]] == ["delete what was left"]
    assert host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso"}


def test_the_seed_is_ejected_and_deleted_once_the_guest_was_reached(hollow: Alive) -> None:
    seed = hollow.host.pool / "tkvm/wn001-seed.iso"
    assert not hollow.host.guest([hollow.spec], contacted=["another"])["changed"]
    assert hollow.change(contacted=["wn001"])["steps"] == ["eject seed", "define", "delete seed"]
    assert not seed.exists()
    assert hollow.info()["seed"] is None
    seed.write_text("what an interrupted run left")
    assert hollow.host.guest([hollow.spec])["guests"]["wn001"]["steps"] == ["delete seed"]
    assert not seed.exists()


def test_power(alive: Alive) -> None:
    """The real thing: the ACPI button, and a guest that is paused when it is pressed."""
    alive.change(state="paused")
    assert alive.info()["state"] == "paused"
    alive.change(state="running")
    alive.change(state="paused")
    options = {"shutdown_timeout": 60, "force_stop": False}
    stopped = alive.host.guest([{**alive.spec, "state": "stopped"}], **options)["guests"]["wn001"]
    assert stopped["state"] == "stopped"
    assert not alive.host.guest([{**alive.spec, "state": "stopped"}], **options)["changed"]
    with alive.host.libvirt() as connection:
        _state, reason = connection.lookupByUUIDString(alive.uuid).state()
        assert reason == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, "it was not powered off"


def test_memory_is_saved_and_the_guest_goes_on_from_there(alive: Alive) -> None:
    """A guest that booted anew would say so on its console."""
    assert alive.change(state="saved")["steps"] == ["switch autostart off", "save"]
    assert alive.info()["state"] == "saved"
    (memory,) = (alive.host.daemon.base / "lib/qemu/save").iterdir()
    assert memory.stat().st_mode & 0o777 == 0o600
    refused = alive.host.guest([{**alive.spec, "memory": 96 * MIB}])
    assert "its memory is saved, and memory cannot change under it" in refused["msg"]
    assert alive.change(state="paused")["steps"] == ["restore", "pause"]
    assert alive.change(state="saved")["steps"] == ["save"]
    assert alive.change(state="running")["steps"] == ["switch autostart on", "restore"]
    with alive.host.libvirt() as connection:
        domain = connection.lookupByUUIDString(alive.uuid)
        assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING, "it was saved while it was paused"
        assert not domain.hasManagedSaveImage()
    alive.change(state="saved")
    options = {"shutdown_timeout": 60, "force_stop": False}
    stopped = alive.host.guest([{**alive.spec, "state": "stopped"}], **options)["guests"]["wn001"]
    assert (stopped["steps"], stopped["state"]) == (["restore", "shut down"], "stopped")
    said = (alive.host.daemon.logs / "wn001-serial.log").read_text(errors="replace")
    assert said.count("beacon: up") == 1, said
    assert list((alive.host.daemon.base / "lib/qemu/save").glob("*")) == []


def crash(host: HostOS, domain: t.Any) -> None:
    """Say "panic" to the guest's panic device, as its kernel would; the port is isa-pvpanic's."""
    words = ["virsh", "-q", "-c", host.daemon.qemu_uri, "qemu-monitor-command", domain.name(), "--hmp", "o /b 0x505 1"]
    subprocess.run(words, check=True, capture_output=True)
    deadline = time.monotonic() + 20
    while domain.state()[0] != libvirt.VIR_DOMAIN_CRASHED:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_crashed_guest_is_started_again(hollow: Alive) -> None:
    with hollow.host.libvirt() as connection:
        domain = connection.lookupByUUIDString(hollow.uuid)
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("<on_crash>destroy", "<on_crash>preserve")
        connection.defineXML(xml.replace("</devices>", "<panic model='isa'/></devices>"))
        domain.destroy()
        domain.create()
        crash(hollow.host, domain)
    assert hollow.info()["state"] == "crashed"
    assert hollow.host.guest([{**hollow.spec, "state": "present"}])["guests"]["wn001"]["state"] == "crashed"
    done = hollow.host.guest([hollow.spec])["guests"]["wn001"]
    assert done["steps"] == ["power off (crashed)", "start"]
    assert done["state"] == "running"
