# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests made on a real QEMU: files, seed, domain; and what is refused before anything is made."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import typing as t
import xml.etree.ElementTree as ET

import pytest
from lxml import etree

if t.TYPE_CHECKING:
    from conftest import HostOS

MIB = 2**20
SCHEMA = "/usr/share/libvirt/schemas/domain.rng"


def disk(name: str = "root", **changes: t.Any) -> dict[str, t.Any]:
    return {"name": name, "size": 32 * MIB, "pool": "local", **changes}


def header(path: pathlib.Path) -> dict[str, t.Any]:
    out = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", str(path)], check=True, capture_output=True, text=True
    )
    info: dict[str, t.Any] = json.loads(out.stdout)
    return info


def in_seed(path: pathlib.Path, name: str) -> str:
    command = ["isoinfo", "-R", "-x", f"/{name}", "-i", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_guest_is_made_as_its_spec_says(host: HostOS) -> None:
    data = disk("data", build_id=None, size=5 * MIB)
    spec = host.spec(state="running", vcpus=2, disks=[disk(build_id=host.builds[0]), data])
    spec["nics"][0]["mtu"] = 1400
    checked = host.guest([spec], check=True)
    assert host.files() == set()
    assert not host.state_dir.exists()
    done = host.guest([spec])["guests"]["wn001"]
    assert done["steps"] == checked["guests"]["wn001"]["steps"]
    assert done["steps"] == [
        "create disk root",
        "create disk data",
        "make seed",
        "define",
        "switch autostart on",
        "start",
    ]
    assert (done["state"], done["build_id"], done["restart_required"]) == ("running", host.builds[0], False)
    assert host.files() == {f"tkvm/wn001-{name}" for name in ("root.qcow2", "data.qcow2", "seed.iso")}
    root, seed = host.pool / "tkvm/wn001-root.qcow2", host.pool / "tkvm/wn001-seed.iso"
    assert header(root)["full-backing-filename"] == str(host.pool / "builds" / f"{host.builds[0]}.qcow2")
    assert header(root)["virtual-size"] == 32 * MIB
    assert "backing-filename" not in header(host.pool / "tkvm/wn001-data.qcow2")
    assert seed.stat().st_mode & 0o777 == 0o600
    again = host.guest([spec])
    assert (again["changed"], again["guests"]["wn001"]["steps"]) == (False, [])
    assert host.guest([spec], check=True)["changed"] is False


def test_the_host_key_in_the_seed_is_the_one_in_the_mark(host: HostOS, tmp_path: pathlib.Path) -> None:
    done = host.guest([host.spec()])["guests"]["wn001"]
    seed = host.pool / "tkvm/wn001-seed.iso"
    user_data = json.loads(in_seed(seed, "user-data").removeprefix("#cloud-config\n"))
    private = tmp_path / "key"
    private.write_text(user_data["ssh_keys"]["ed25519_private"])
    private.chmod(0o600)
    public = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], check=True, capture_output=True, text=True).stdout
    assert public.split()[:2] == done["host_key"].split()
    assert user_data["ssh_keys"]["ed25519_public"].split()[:2] == done["host_key"].split()
    assert json.loads(in_seed(seed, "meta-data"))["instance-id"] == host.spec()["uuid"]
    assert json.loads(in_seed(seed, "network-config"))["ethernets"]["eth0"]["addresses"] == ["10.88.4.1/24"]
    volume = subprocess.run(["isoinfo", "-d", "-i", str(seed)], check=True, capture_output=True, text=True).stdout
    assert "Volume id: cidata" in volume
    assert list((host.state_dir / "seeds").iterdir()) == [], "a private key was left where seeds are put together"
    info = host.info()["guests"][host.spec()["uuid"]]
    assert (info["host_key"], info["seed"]) == (done["host_key"], str(seed))


def test_what_libvirt_made_of_it_is_valid_and_keeps_its_machine(host: HostOS) -> None:
    host.guest([host.spec(), host.spec(2, firmware="uefi")])
    schema = etree.RelaxNG(file=SCHEMA)
    with host.libvirt() as connection:
        for domain in connection.listAllDomains():
            text = domain.XMLDesc()
            schema.assertValid(etree.fromstring(text))
            machine = ET.fromstring(text).find("os/type")
            assert machine is not None
            assert machine.get("machine", "").startswith("pc-q35-"), "an alias would become another machine elsewhere"


def test_no_secret_is_returned_or_logged(host: HostOS) -> None:
    spec = host.spec()
    spec["seed"]["cloud_init"] = {"chpasswd": {"list": "root:hunter2-hunter2"}}
    for check in (True, False):
        assert "hunter2" not in json.dumps(host.guest([spec], check=check))
    assert "hunter2" in in_seed(host.pool / "tkvm/wn001-seed.iso", "user-data")
    with host.libvirt() as connection:
        assert "hunter2" not in connection.lookupByName("wn001").XMLDesc()


def test_a_uefi_guest_starts_and_leaves_nothing(host: HostOS) -> None:
    spec = host.spec(firmware="uefi", state="running", memory=256 * MIB)
    assert host.guest([spec])["guests"]["wn001"]["state"] == "running"
    assert not host.guest([spec])["changed"]
    variables = list((host.daemon.base / "lib/qemu/nvram").glob("wn001*"))
    assert len(variables) == 1
    host.guest([{**spec, "state": "absent"}], remove_disks=True)
    assert not variables[0].exists()
    assert host.files() == set()


def test_an_empty_root_disk_needs_no_build(host: HostOS) -> None:
    done = host.guest([host.spec(disks=[disk()], seed=None, state="paused")])["guests"]["wn001"]
    assert (done["state"], done["build_id"], done["host_key"]) == ("paused", None, None)
    assert host.files() == {"tkvm/wn001-root.qcow2"}


def damaged_build(host: HostOS, how: str) -> str:
    """A build_id whose file is not what it must be."""
    path = host.pool / "builds" / f"{'d' * 64}.qcow2"
    good = host.pool / "builds" / f"{host.builds[0]}.qcow2"
    if how == "is not on this HostOS":
        return "d" * 64
    if how == "is not a regular file":
        path.symlink_to(good)
    elif how == "stands alone":
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(good), "-F", "qcow2", str(path)]
        subprocess.run(command, check=True)
        path.chmod(0o444)
    else:
        path.write_bytes(good.read_bytes())
        path.chmod(0o644)
    return "d" * 64


@pytest.mark.parametrize("how", ["is not on this HostOS", "is not a regular file", "stands alone", "can be written to"])
def test_an_overlay_lands_on_a_verified_build_only(host: HostOS, how: str) -> None:
    bad = damaged_build(host, how)
    for check in (True, False):
        done = host.guest([host.spec(1, disks=[disk(build_id=bad)]), host.spec(2)], check=check)
        assert done["failed"]
        assert how in done["guests"]["wn001"]["msg"]
        assert bad in done["guests"]["wn001"]["msg"]
    assert host.files() == {"tkvm/wn002-root.qcow2", "tkvm/wn002-seed.iso"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disks": [disk(size=8 * MIB)]}, ["disks.root.size", "its build needs 16777216 bytes"]),
        ({"disks": [disk(pool="san")]}, ["disks.root.pool: found 'san'", "active pools of this HostOS: local"]),
        ({"cpu": {"model": "NoSuchCPU"}}, ["cpu.model: found 'NoSuchCPU'"]),
        ({"cpu": {"model": "host-passthrough"}}, ["cpu.model: found 'host-passthrough'"]),
        ({"hypervisor": "xen"}, ["hypervisor 'xen'"]),
        ({"seed": {"hostname": "x", "cloud_init": {"ssh_keys": {}}}}, ["cloud_init.ssh_keys"]),
        ({"first_contact": True}, ["it was reached before", "wn001-root.qcow2", "recreate: true"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    host: HostOS, changes: dict[str, t.Any], words: list[str]
) -> None:
    spec = host.spec(**changes)
    for entry in spec["disks"]:
        entry.setdefault("build_id", host.builds[0])
    checked, done = host.guest([spec], check=True), host.guest([spec])
    for result in (checked, done):
        assert result["failed"]
        assert not result["changed"]
        assert result["msg"].startswith("1 of 1 guests failed: guest wn001: ")
        assert all(word in result["msg"] for word in words), result["msg"]
    assert host.files() == set()


def test_a_bridge_that_is_not_there_is_refused(host: HostOS) -> None:
    done = host.guest([host.spec(nics=[host.nic(1, bridge="nobridge")]), host.spec(2, nics=[host.nic(2, bridge="lo")])])
    assert "found 'nobridge', which is no bridge" in done["guests"]["wn001"]["msg"]
    assert "found 'lo', which is no bridge" in done["guests"]["wn002"]["msg"]
    assert host.files() == set()


def test_emulation_can_be_refused(host: HostOS) -> None:
    done = host.guest([host.spec()], emulation="refuse")
    assert "KVM does not work on this HostOS" in done["msg"]
    assert host.files() == set()


def test_a_file_that_is_not_known_to_be_the_guests_is_never_taken(host: HostOS) -> None:
    (host.pool / "tkvm").mkdir()
    stranger = host.pool / "tkvm/wn001-root.qcow2"
    stranger.write_text("somebody's")
    for check in (True, False):
        done = host.guest([host.spec()], check=check)
        assert "nothing says that it belongs to this guest" in done["msg"]
    assert stranger.read_text() == "somebody's"
    assert host.files() == {"tkvm/wn001-root.qcow2"}


def test_a_file_that_another_domain_uses_is_never_taken(host: HostOS) -> None:
    """Guest wn001 with a disk x-root, and a guest wn001-x: the same path."""
    host.guest([host.spec(disks=[disk(build_id=host.builds[0]), disk("x-root")])])
    done = host.guest([host.spec(2, name="wn001-x")])
    assert "wn001-x-root.qcow2 is in use by wn001" in done["msg"]


def test_a_new_guest_that_was_reached_needs_consent_to_be_empty(host: HostOS) -> None:
    spec = host.spec(first_contact=True, recreate=True, state="running")
    done = host.guest([spec])["guests"]["wn001"]
    assert "create disk root" in done["steps"]
    assert "make seed" in done["steps"]


def test_a_given_host_key_is_kept(host: HostOS, tmp_path: pathlib.Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    private = (tmp_path / "key").read_text()
    done = host.guest([host.spec()], host_keys_private={"wn001": private})
    public = (tmp_path / "key.pub").read_text().split()[:2]
    assert done["guests"]["wn001"]["host_key"].split() == public
    assert private.splitlines()[1] not in json.dumps(done)


def test_a_given_host_key_must_be_one(host: HostOS) -> None:
    done = host.guest([host.spec()], host_keys_private={"wn001": "no key at all"})
    assert "guest wn001: cannot read its host key" in done["msg"]
    assert "wn001" not in str(list(os.listdir(host.state_dir / "seeds")))
    assert host.guest([host.spec()])["guests"]["wn001"]["changed"]
