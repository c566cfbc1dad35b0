# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new root disk by consent; a guest that was renamed. Both keep the rest."""

from __future__ import annotations

import json
import subprocess
import typing as t

import libvirt
import pytest

if t.TYPE_CHECKING:
    from conftest import HostOS

MIB = 2**20


def on_build(host: HostOS, number: int, **changes: t.Any) -> dict[str, t.Any]:
    root = {"name": "root", "size": 32 * MIB, "pool": "local", "build_id": host.builds[number]}
    data = {"name": "data", "size": 4 * MIB, "pool": "local"}
    return host.spec(**{"disks": [root, data], "state": "running", **changes})


def backing(host: HostOS) -> str:
    command = ["qemu-img", "info", "-U", "--output=json", str(host.pool / "tkvm/wn001-root.qcow2")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return str(json.loads(out)["backing-filename"])


def test_a_newer_build_is_reported_and_touches_no_disk(host: HostOS) -> None:
    host.guest([on_build(host, 0)])
    root = host.pool / "tkvm/wn001-root.qcow2"
    before = root.read_bytes()
    done = host.guest([on_build(host, 1)])
    assert (done["changed"], done["guests"]["wn001"]["build_outdated"]) == (False, True)
    assert done["guests"]["wn001"]["build_id"] == host.builds[0]
    assert root.read_bytes() == before
    assert not host.guest([on_build(host, 0)])["guests"]["wn001"]["build_outdated"]


def test_a_rebuild_replaces_the_root_disk_and_keeps_the_rest(host: HostOS) -> None:
    first = host.guest([on_build(host, 0)], contacted=["wn001"])["guests"]["wn001"]
    host.guest([on_build(host, 0, first_contact=True)])
    data = host.pool / "tkvm/wn001-data.qcow2"
    identity, before = data.stat().st_ino, host.info()["guests"][host.spec()["uuid"]]
    wish = on_build(host, 1, recreate=True)
    checked, done = host.guest([wish], check=True), host.guest([wish])
    assert checked["guests"]["wn001"]["steps"] == done["guests"]["wn001"]["steps"]
    assert done["guests"]["wn001"]["steps"] == ["shut down", "replace disk root", "make seed", "define", "start"]
    one = done["guests"]["wn001"]
    assert (one["state"], one["build_id"], one["build_outdated"]) == ("running", host.builds[1], False)
    assert one["host_key"] != first["host_key"]
    assert host.builds[1] in backing(host)
    assert data.stat().st_ino == identity
    after = host.info()["guests"][host.spec()["uuid"]]
    assert [nic["mac"] for nic in after["nics"]] == [nic["mac"] for nic in before["nics"]]
    assert after["seed"] == str(host.pool / "tkvm/wn001-seed.iso")
    again = host.guest([wish])
    assert (again["changed"], again["guests"]["wn001"]["steps"]) == (False, [])


def test_a_rebuild_keeps_a_host_key_that_it_is_given(host: HostOS, tmp_path: t.Any) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    keys = {"wn001": (tmp_path / "key").read_text()}
    host.guest([on_build(host, 0)])
    done = host.guest([on_build(host, 1, recreate=True)], host_keys_private=keys)["guests"]["wn001"]
    assert done["host_key"].split() == (tmp_path / "key.pub").read_text().split()[:2]


def test_a_lost_root_disk_is_refused_and_made_again_with_consent(host: HostOS) -> None:
    host.guest([on_build(host, 0, state="stopped")])
    (host.pool / "tkvm/wn001-root.qcow2").unlink()
    refused = host.guest([on_build(host, 0)])
    assert "wn001-root.qcow2 is missing or no disk" in refused["msg"]
    wish = on_build(host, 0, recreate=True)
    done = host.guest([wish])["guests"]["wn001"]
    assert done["steps"][:2] == ["replace disk root", "make seed"]
    assert done["state"] == "running"
    assert not host.guest([wish])["changed"]


def test_a_rebuild_drops_saved_memory(host: HostOS) -> None:
    host.guest([on_build(host, 0)])
    with host.libvirt() as connection:
        connection.lookupByName("wn001").managedSave(0)
    done = host.guest([on_build(host, 1, recreate=True)])["guests"]["wn001"]
    assert done["steps"][:2] == ["drop its saved memory", "replace disk root"]
    with host.libvirt() as connection:
        assert not connection.lookupByName("wn001").hasManagedSaveImage()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (0, "it has 1 snapshots, which a rebuild would break"),
        (libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY, "which the collection did not make (a snapshot?)"),
    ],
)
def test_a_rebuild_refuses_to_break_snapshots(host: HostOS, flags: int, words: str) -> None:
    host.guest([on_build(host, 0, state="stopped")])
    with host.libvirt() as connection:
        connection.lookupByName("wn001").snapshotCreateXML("<domainsnapshot/>", flags)
    before = host.files()
    for check in (True, False):
        assert words in host.guest([on_build(host, 1, recreate=True)], check=check)["msg"]
    assert host.files() == before
    assert host.builds[0] in backing(host)


def test_a_rename_keeps_files_and_everything(host: HostOS) -> None:
    host.guest([on_build(host, 0, state="stopped")])
    key = host.info()["guests"][host.spec()["uuid"]]["host_key"]
    identity = (host.pool / "tkvm/wn001-root.qcow2").stat().st_ino
    wish = on_build(host, 0, name="compute-1", seed=None)
    checked, done = host.guest([wish], check=True), host.guest([wish])
    assert checked["guests"]["compute-1"]["steps"] == done["guests"]["compute-1"]["steps"]
    assert done["guests"]["compute-1"]["state"] == "running"
    assert host.files() == {f"tkvm/compute-1-{what}" for what in ("root.qcow2", "data.qcow2", "seed.iso")}
    assert (host.pool / "tkvm/compute-1-root.qcow2").stat().st_ino == identity
    after = host.info()["guests"][host.spec()["uuid"]]
    assert (after["name"], after["guest"], after["host_key"]) == ("compute-1", "compute-1", key)
    assert not host.guest([wish])["changed"]
    # The old name is free for another guest.
    assert host.guest([wish, host.spec(2, name="wn001")])["guests"]["wn001"]["changed"]


def test_a_rename_does_not_overwrite(host: HostOS) -> None:
    host.guest([on_build(host, 0, state="stopped")])
    (host.pool / "tkvm/compute-1-root.qcow2").write_text("somebody's")
    refused = host.guest([on_build(host, 0, name="compute-1")])
    assert "compute-1-root.qcow2 is there already" in refused["msg"]
    assert (host.pool / "tkvm/compute-1-root.qcow2").read_text() == "somebody's"
    assert [one["name"] for one in host.info()["guests"].values()] == ["wn001"]
