# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A move that must not be begun leaves both HostOSes as they were, and says why, in check mode, too."""

from __future__ import annotations

import typing as t

import pytest
from rack import Beacons, Rack
from wire import Wire

NUMBER = 34
BUILDS = "/var/lib/oscarv/builds"
PKI = "/etc/pki"
FOREIGN = (
    '<domain type="qemu"><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><os><type>hvm</type></os></domain>'
)


@pytest.fixture(scope="module")
def guest(rack: Rack, beacons: Beacons) -> dict[str, t.Any]:
    spec = rack.spec("fixed", NUMBER)
    made = rack.make("node01", {**spec, "state": "stopped"})
    assert not made.get("failed"), made
    rack.ssh("node01", "qemu-io -c 'write -P 0x5c 700M 1M' /var/lib/oscarv/tmod/fixed-data.qcow2")
    made = rack.make("node01", spec)
    assert not made.get("failed"), made
    beacons.wait(rack.mac(NUMBER))
    return spec


def define(name: str, uuid: str) -> str:
    return f"echo '{FOREIGN.format(name=name, uuid=uuid)}' > /root/foreign.xml && virsh define /root/foreign.xml"


OTHER = "0f0e0d0c-0000-4000-8000-000000000001"
CASES: dict[str, tuple[str, str, str, str]] = {
    "the build is missing": ("node02", f"mv {BUILDS} {BUILDS}-away", f"mv {BUILDS}-away {BUILDS}", "lacks the build"),
    "the build is another": (
        "node02",
        f"cp -r {BUILDS} {BUILDS}-kept; chmod 644 {BUILDS}/*; truncate -s +512 {BUILDS}/*",
        f"rm -r {BUILDS}; mv {BUILDS}-kept {BUILDS}",
        "fetch it anew",
    ),
    "its name is taken": (
        "node02",
        define("fixed", OTHER),
        "virsh undefine fixed",
        "another domain that is called fixed",
    ),
    "a file is in the way": (
        "node02",
        "mkdir -p /var/lib/oscarv/tmod; touch /var/lib/oscarv/tmod/fixed-data.qcow2",
        "rm /var/lib/oscarv/tmod/fixed-data.qcow2",
        "fixed-data.qcow2 exists on node02 already",
    ),
    "the pool is not active": ("node02", "virsh pool-destroy local", "virsh pool-start local", "no such active pool"),
    "libvirt does not listen": (
        "node02",
        "systemctl stop libvirtd-tls.socket libvirtd.service",
        "systemctl start libvirtd-tls.socket libvirtd.service",
        "target node02 cannot be reached for a move",
    ),
    "no certificate for the connection": (
        "node01",
        f"mv {PKI}/libvirt/clientcert.pem {PKI}/libvirt/away.pem",
        f"mv {PKI}/libvirt/away.pem {PKI}/libvirt/clientcert.pem",
        "target node02 cannot be reached for a move",
    ),
    "no certificate for memory and disks": (
        "node01",
        f"mv {PKI}/qemu/client-cert.pem {PKI}/qemu/away.pem",
        f"mv {PKI}/qemu/away.pem {PKI}/qemu/client-cert.pem",
        "memory and disks cannot be encrypted",
    ),
    "it has a foreign disk": (
        "node01",
        "qemu-img create -q -f qcow2 /srv/foreign.qcow2 8M;"
        " virsh attach-disk fixed /srv/foreign.qcow2 vdz --subdriver qcow2 --config --live",
        "virsh detach-disk fixed vdz --config --live; sleep 2; rm /srv/foreign.qcow2",
        "disk vdz (/srv/foreign.qcow2) is not one of its spec's",
    ),
    "a bridge is missing": (
        "node01",
        "ip link add br9 type bridge;"
        " virsh attach-interface fixed bridge br9 --model virtio --mac 52:54:00:00:09:09 --config",
        "virsh detach-interface fixed bridge --mac 52:54:00:00:09:09 --config; ip link del br9",
        "bridge br9 is missing on node02",
    ),
    "it has a snapshot": (
        "node01",
        "virsh snapshot-create-as fixed s1 --disk-only --diskspec vda,snapshot=no --diskspec vdb,file=/srv/snap.qcow2",
        "virsh blockcommit fixed vdb --active --pivot --wait; virsh snapshot-delete fixed s1 --metadata;"
        " rm /srv/snap.qcow2",
        "libvirt snapshots",
    ),
}

#: Each costs two modules and a look at everything on both HostOSes.
LONG = {
    "it has a foreign disk",
    "a file is in the way",
    "its name is taken",
    "the build is another",
    "it has a snapshot",
}
assert set(CASES) > LONG


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.long] * (case in LONG)) for case in CASES])
def test_refused_and_unchanged(rack: Rack, guest: dict[str, t.Any], case: str) -> None:
    host, do, undo, words = CASES[case]
    rack.ssh(host, do)
    try:
        reachable = "listen" not in case and "pool" not in case
        before = rack.picture() if reachable else {}
        predicted = rack.move(guest, "node01", "node02", 2, "--check")
        result = rack.move(guest, "node01", "node02", 2)
        after = rack.picture() if reachable else {}
    finally:
        rack.ssh(host, undo)
    for said in (predicted, result):
        assert said["failed"] and not said["changed"], said
        (move,) = said["moves"]
        assert words in "; ".join(move["refused"]), said["msg"]
        assert (move["outcome"], move["moved"]) == ("aborted", False)
        assert said["msg"].startswith("1 of 1 failed: guest fixed: not moved, nothing was changed: ")
    assert after == before
    assert rack.where("fixed") == {"node01": ("running", 1)}


def test_a_guest_that_is_not_ours_is_not_moved(rack: Rack, guest: dict[str, t.Any]) -> None:
    rack.ssh("node01", define("stranger", OTHER))
    try:
        spec = {**rack.spec("stranger", NUMBER + 1), "uuid": OTHER}
        result = rack.move(spec, "node01", "node02", 2)
        assert result["failed"] and "does not carry this collection's mark" in result["msg"]
        assert set(rack.where("stranger")) == {"node01"}
    finally:
        rack.ssh("node01", "virsh undefine stranger")


def test_one_that_is_refused_does_not_stop_the_other(rack: Rack, guest: dict[str, t.Any], beacons: Beacons) -> None:
    unknown = rack.spec("unknown", NUMBER + 2)
    requests = [rack.request(spec, "node01", "node02", 2)["moves"][0] for spec in (unknown, guest)]
    result = rack.module("node01", "guest_migrate", {"source": "node01", "moves": requests})
    assert result["failed"] and result["changed"]
    assert [move["outcome"] for move in result["moves"]] == ["aborted", "committed"]
    assert "guest unknown: " in result["msg"] and "guest fixed" not in result["msg"]
    assert rack.where("fixed") == {"node02": ("running", 2)}


def test_plaintext_is_a_consent(rack: Rack, guest: dict[str, t.Any], beacons: Beacons) -> None:
    """Without QEMU's certificates the same move works once somebody has consented to it."""
    rack.ssh("node02", f"mv {PKI}/qemu/client-cert.pem {PKI}/qemu/away.pem")
    try:
        refused = rack.move(guest, "node02", "node01", 3)
        assert refused["failed"] and "consent to plaintext: true" in refused["msg"]
        with Wire(f"lab-{rack.name}") as wire:
            result = rack.move(guest, "node02", "node01", 3, plaintext=True)
        assert result["moves"][0]["moved"], result
        assert wire.readable == {"memory", "disk"}, "so what is not readable otherwise would have been seen"
    finally:
        rack.ssh("node02", f"mv {PKI}/qemu/away.pem {PKI}/qemu/client-cert.pem")
    assert rack.where("fixed") == {"node01": ("running", 3)}
