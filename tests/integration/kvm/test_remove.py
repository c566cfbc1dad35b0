# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing guests: undefine first, delete after, and only what is ours."""

from __future__ import annotations

import subprocess
import typing as t
import xml.etree.ElementTree as ET

import libvirt
import pytest

if t.TYPE_CHECKING:
    from conftest import HostOS

MIB = 2**20
CLONE = (
    "<domain type='qemu'><name>clone</name><memory>65536</memory><os><type machine='q35'>hvm</type></os>"
    "<devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='{overlay}'/>"
    "<target dev='vda'/></disk></devices></domain>"
)


def test_absent_keeps_disks_and_the_guest_comes_back_with_them(host: HostOS) -> None:
    host.guest([host.spec(state="running")])
    before = host.info()["guests"][host.spec()["uuid"]]
    disk = host.pool / "tkvm/wn001-root.qcow2"
    subprocess.run(["qemu-io", "-U", "-c", "write -P 7 1M 64k", str(disk)], check=False, capture_output=True)
    identity = disk.stat().st_ino
    gone = host.spec(state="absent")
    checked, done = host.guest([gone], check=True), host.guest([gone])
    assert checked["guests"]["wn001"]["steps"] == done["guests"]["wn001"]["steps"] == ["shut down", "undefine"]
    assert done["guests"]["wn001"]["state"] == "absent"
    assert host.info()["guests"] == {}
    assert host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso", "tkvm/wn001.claim.json"}
    assert not host.guest([gone])["changed"]
    back = host.guest([host.spec(state="running")])["guests"]["wn001"]
    assert back["steps"] == ["define", "switch autostart on", "start"]
    after = host.info()["guests"][host.spec()["uuid"]]
    for key in ("host_key", "build_id", "epoch", "disks", "nics", "seed", "memory"):
        assert after[key] == before[key]
    assert disk.stat().st_ino == identity
    assert host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso"}


def test_a_guest_that_was_reached_comes_back_without_a_seed(host: HostOS) -> None:
    host.guest([host.spec()])
    key = host.info()["guests"][host.spec()["uuid"]]["host_key"]
    host.guest([host.spec(first_contact=True)])
    assert host.files() == {"tkvm/wn001-root.qcow2"}
    host.guest([host.spec(first_contact=True, state="absent")])
    back = host.guest([host.spec(first_contact=True)])["guests"]["wn001"]
    assert (back["steps"], back["host_key"]) == (["define"], key)


def test_a_kept_disk_is_grown_never_shrunk_and_never_another_guests(host: HostOS) -> None:
    host.guest([host.spec(), host.spec(2)])
    host.guest([host.spec(state="absent"), host.spec(2)])
    root = host.spec()["disks"][0]
    smaller = host.guest([host.spec(disks=[{**root, "size": 20 * MIB}]), host.spec(2)])
    assert "a disk is never shrunk" in smaller["guests"]["wn001"]["msg"]
    stranger = host.guest([host.spec(9, name="wn001"), host.spec(2)])
    assert "disks of an earlier guest of this name" in stranger["guests"]["wn001"]["msg"]
    renamed = host.guest([host.spec(name="other"), host.spec(2)])
    assert "kept under its earlier name 'wn001'" in renamed["guests"]["other"]["msg"]
    bigger = host.guest([host.spec(disks=[{**root, "size": 40 * MIB}]), host.spec(2)])["guests"]["wn001"]
    assert "grow disk root: 33554432 -> 41943040 bytes" in bigger["steps"]
    assert host.info()["guests"][host.spec()["uuid"]]["disks"][0]["size"] == 40 * MIB


def test_a_kept_disk_on_another_build_is_reported_and_not_touched(host: HostOS) -> None:
    host.guest([host.spec()])
    host.guest([host.spec(state="absent")])
    disk = host.pool / "tkvm/wn001-root.qcow2"
    content = disk.read_bytes()
    root = {**host.spec()["disks"][0], "build_id": host.builds[1]}
    back = host.guest([host.spec(disks=[root])])["guests"]["wn001"]
    assert (back["build_outdated"], back["build_id"]) == (True, host.builds[0])
    assert disk.read_bytes() == content


def test_removing_disks_leaves_nothing(host: HostOS, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_remove

    monkeypatch.setattr(_kvm_remove, "CONSOLE_LOGS", str(host.daemon.logs))  # libvirtd has a /var/log of its own here
    data = {"name": "data", "size": 2 * MIB, "pool": "local"}
    spec = host.spec(state="running", disks=[*host.spec()["disks"], data])
    host.guest([spec])
    gone = {**spec, "state": "absent"}
    checked, done = host.guest([gone], check=True, remove_disks=True), host.guest([gone], remove_disks=True)
    assert checked["guests"]["wn001"]["steps"] == done["guests"]["wn001"]["steps"]
    assert [step.split(":")[0] for step in done["guests"]["wn001"]["steps"]] == [
        "shut down",
        "undefine",
        "delete disk root",
        "delete disk data",
        "delete seed",
    ]
    assert host.files() == set()
    assert list(host.daemon.logs.glob("wn001-serial*")) == []
    assert not host.guest([gone], remove_disks=True)["changed"]


def test_disks_that_were_kept_are_removed_with_consent_later(host: HostOS) -> None:
    host.guest([host.spec()])
    gone = host.spec(state="absent")
    host.guest([gone])
    checked, done = host.guest([gone], check=True, remove_disks=True), host.guest([gone], remove_disks=True)
    assert checked["changed"] is done["changed"] is True
    assert checked["guests"]["wn001"]["steps"] == done["guests"]["wn001"]["steps"]
    assert host.files() == set()
    assert not host.guest([gone], remove_disks=True)["changed"]


ATTACHED = """<disk type='file' device='{device}'><driver name='qemu' type='{format}'/><source file='{path}'/>
<target dev='{target}' bus='{bus}'/>{extra}</disk>"""


@pytest.mark.parametrize(
    ("name", "device", "extra"),
    [
        ("tkvm/wn001-extra.qcow2", "disk", "<readonly/>"),
        ("tkvm/wn001-extra.qcow2", "disk", "<shareable/>"),
        ("tkvm/wn001-extra.qcow2", "cdrom", "<readonly/>"),
        ("tkvm/other-extra.qcow2", "disk", ""),
        ("elsewhere/wn001-extra.qcow2", "disk", ""),
        ("wn001-extra.qcow2", "disk", ""),
    ],
)
def test_what_is_not_certainly_ours_is_never_removed(host: HostOS, name: str, device: str, extra: str) -> None:
    host.guest([host.spec()])
    path = host.pool / name
    path.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "raw" if "share" in extra else "qcow2", str(path), "1M"], check=True
    )
    bus, target = ("sata", "sdb") if device == "cdrom" else ("virtio", "vdz")
    form = "raw" if "share" in extra or device == "cdrom" else "qcow2"
    with host.libvirt() as connection:
        xml = ATTACHED.format(device=device, path=path, target=target, bus=bus, extra=extra, format=form)
        connection.lookupByName("wn001").attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert not host.guest([host.spec()])["changed"], "what a person added is no difference"
    host.guest([host.spec(state="absent")], remove_disks=True)
    assert host.files() == {name}


def test_a_disk_that_another_guest_stands_on_is_never_removed(host: HostOS) -> None:
    host.guest([host.spec()])
    root = host.pool / "tkvm/wn001-root.qcow2"
    overlay = host.pool / "clone.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(root), "-F", "qcow2", str(overlay)], check=True
    )
    with host.libvirt() as connection:
        connection.defineXML(CLONE.format(overlay=overlay))
    host.guest([host.spec(state="absent")], remove_disks=True)
    assert root.exists()
    assert "wn001" not in [one["name"] for one in host.info()["guests"].values()]


def test_nothing_is_removed_while_a_domain_has_a_disk_that_cannot_be_read(host: HostOS) -> None:
    """It may stand on anything. A link to itself stands for a share that does not answer: root reads all else."""
    host.guest([host.spec()])
    before, lost = host.files(), host.pool / "clone.qcow2"
    with host.libvirt() as connection:
        connection.defineXML(CLONE.format(overlay=lost))
    lost.symlink_to(lost)
    refused = host.guest([host.spec(state="absent")], remove_disks=True)["guests"]["wn001"]
    assert refused["failed"] and f"domain clone: {lost} cannot be read (Too many levels" in refused["msg"]
    assert host.files() - {"clone.qcow2"} == before and host.info()["guests"], "neither the disk nor the guest went"
    assert not host.guest([host.spec()])["changed"]
    lost.unlink()
    host.guest([host.spec(state="absent")], remove_disks=True)
    assert not host.files()


def test_builds_stay(host: HostOS) -> None:
    host.guest([host.spec()])
    host.guest([host.spec(state="absent")], remove_disks=True)
    assert sorted(path.stem for path in (host.pool / "builds").iterdir()) == sorted(host.builds)


def test_saved_memory_and_snapshots_do_not_stand_in_the_way(host: HostOS) -> None:
    host.guest([host.spec(state="running"), host.spec(2)])
    with host.libvirt() as connection:
        connection.lookupByName("wn001").managedSave(0)
        connection.lookupByName("wn002").snapshotCreateXML("<domainsnapshot/>")
    done = host.guest([host.spec(state="absent"), host.spec(2, state="absent")], remove_disks=True)
    assert not done.get("failed"), done
    assert host.info()["guests"] == {}
    assert host.files() == set()
    assert list((host.daemon.base / "lib/qemu/save").glob("*")) == []


def test_a_guest_on_an_external_snapshot_keeps_both_files(host: HostOS) -> None:
    host.guest([host.spec()])
    with host.libvirt() as connection:
        domain = connection.lookupByName("wn001")
        domain.snapshotCreateXML("<domainsnapshot/>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    again = host.guest([host.spec()])
    assert not again.get("failed") and not again["changed"], again
    host.guest([host.spec(state="absent")], remove_disks=True)
    left = {name for name in host.files() if "root" in name}
    assert len(left) == 2
    assert "tkvm/wn001-root.qcow2" in left


def test_a_guest_that_does_not_shut_down_is_named_and_stays(host: HostOS) -> None:
    host.guest([host.spec(state="running"), host.spec(2, state="running")])
    wish = [host.spec(state="absent"), host.spec(2, state="stopped")]
    done = host.guest(wish, shutdown_timeout=1, force_stop=False)
    assert done["msg"].startswith("2 of 2 guests failed: ")
    for name in ("wn001", "wn002"):
        assert f"guest {name}: still running 1 s after it was asked to shut down" in done["msg"]
    assert {one["state"] for one in host.info()["guests"].values()} == {"running"}
    assert "tkvm/wn001-root.qcow2" in host.files()
    forced = host.guest(wish, shutdown_timeout=1, force_stop=True)
    assert [forced["guests"][name]["state"] for name in ("wn001", "wn002")] == ["absent", "stopped"]


class TestPrune:
    def test_removes_with_disks(self, host: HostOS) -> None:
        host.guest([host.spec(), host.spec(2, state="running")])
        covered = [{"name": "wn002", "uuid": host.spec(2)["uuid"], "epoch": 1}]
        wish = {"prune": "remove", "prunable": covered, "remove_disks": True}
        checked, done = host.guest([host.spec()], check=True, **wish), host.guest([host.spec()], **wish)
        assert checked["pruned"] == done["pruned"]
        assert host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso"}
        assert not host.guest([host.spec()], **wish)["changed"]

    def test_names_a_guest_that_does_not_shut_down(self, host: HostOS) -> None:
        host.guest([host.spec(state="running")])
        uuid = host.spec()["uuid"]
        covered = [{"name": "wn001", "uuid": uuid, "epoch": 1}]
        done = host.guest([], prune="remove", prunable=covered, shutdown_timeout=1, force_stop=False)
        (left,) = done["prune_failed"]
        assert (done["failed"], left["name"], left["uuid"], done["pruned"]) == (True, "wn001", uuid, [])
        assert "still running 1 s after it was asked to shut down" in left["msg"] and host.info()["guests"]

    def test_removes_kept_disks_of_a_guest_that_is_gone(self, host: HostOS) -> None:
        host.guest([host.spec(), host.spec(2)])
        host.guest([host.spec(), host.spec(2, state="absent")])
        covered = [{"name": "wn002", "uuid": host.spec(2)["uuid"], "epoch": 1}]
        assert not host.guest([host.spec()], prune="remove", prunable=covered)["changed"]
        assert host.guest([host.spec()], prune="remove", prunable=covered, remove_disks=True)["changed"]
        assert host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso"}

    def test_a_stale_copy_is_powered_off_and_leaves_shared_disks_alone(
        self, host: HostOS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from ansible_collections.oscarv.virt.plugins.module_utils import _hostos, _kvm_remove

        assert _hostos.may_be_shared(str(host.pool)) is False
        monkeypatch.setattr(_kvm_remove, "may_be_shared", lambda path: True)  # there is no NFS server here
        host.guest([host.spec(), host.spec(2, state="running")])
        newer = [{"name": "wn002", "uuid": host.spec(2)["uuid"], "epoch": 2}]
        wish = {"prune": "remove", "prunable": newer, "remove_disks": True, "shutdown_timeout": 60, "force_stop": False}
        done = host.guest([host.spec()], **wish)
        assert done["pruned"][0]["steps"] == ["power off", "undefine"]
        assert host.files() == {f"tkvm/wn00{n}-{what}" for n in (1, 2) for what in ("root.qcow2", "seed.iso")}

    def test_a_stale_copy_on_local_disks_is_removed_whole(self, host: HostOS) -> None:
        host.guest([host.spec(), host.spec(2)])
        newer = [{"name": "wn002", "uuid": host.spec(2)["uuid"], "epoch": 2}]
        host.guest([host.spec()], prune="remove", prunable=newer, remove_disks=True)
        assert host.files() == {"tkvm/wn001-root.qcow2", "tkvm/wn001-seed.iso"}


def test_a_foreign_domain_is_left_alone(host: HostOS) -> None:
    xml = "<domain type='qemu'><name>wn001</name><memory>65536</memory><os><type machine='q35'>hvm</type></os></domain>"
    with host.libvirt() as connection:
        connection.defineXML(xml).create()
        before = ET.canonicalize(connection.lookupByName("wn001").XMLDesc())
    done = host.guest([host.spec(state="running"), host.spec(2)])
    assert "a domain of this name is here already" in done["guests"]["wn001"]["msg"]
    host.guest([host.spec(state="absent"), host.spec(2)], remove_disks=True)
    with host.libvirt() as connection:
        assert ET.canonicalize(connection.lookupByName("wn001").XMLDesc()) == before
    assert [one["name"] for one in done["foreign"]] == ["wn001"]
