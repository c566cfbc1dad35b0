# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that speaks against a move is found before anything is changed. What real HostOSes can show is shown in
tests/integration/migrate/test_refusals.py; here are the rest and the words."""

from __future__ import annotations

import os
import pathlib
import typing as t

import libvirt
import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_fit as fit
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_plan import MovePlan, Refused, make_plan
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, MOVING, Tombstone
from stage import BUILD, MIB, UUID, Connection, Domain, Stage, plain

CUSTOM = "<cpu mode='custom'><model>Skylake</model></cpu>"


def look(play: Stage, **changes: t.Any) -> MovePlan:
    return make_plan(
        t.cast(t.Any, play.driver), play.driver.observe_one(UUID), play.request(**changes), t.cast(t.Any, play.target)
    )


def pictured(play: Stage) -> t.Any:
    files = sorted(os.listdir(play.driver.pool / "demo"))
    return (
        files,
        {path: dict(found) for path, found in play.target.folders.items() if found},
        play.driver.tombstones.all(),
    )


def why(play: Stage, **changes: t.Any) -> str:
    """The reasons of a refusal; the files of the pool and of the target are as before."""
    before = pictured(play)
    with pytest.raises(Refused) as refused:
        look(play, **changes)
    assert str(refused.value).startswith("guest wn1: not moved, nothing was changed: ")
    assert pictured(play) == before
    return "; ".join(refused.value.reasons)


def test_a_good_one(play: Stage) -> None:
    plan = look(play)
    assert plan.live and not plan.restart and plan.warnings == ()
    assert [(disk.name, disk.device, disk.shared) for disk in plan.disks] == [
        ("root", "vda", False),
        ("data", "vdb", False),
    ]
    names = ("wn1-root.qcow2", "wn1-data.qcow2", "wn1-seed.iso")
    assert plan.arriving == tuple(play.driver.path(name) for name in names)
    assert plan.leaving == plan.arriving


def test_shared_disks_are_not_copied_and_keep_their_seed_where_it_is(play: Stage) -> None:
    spec = plain()
    spec["disks"] = [{**disk, "shared": True} for disk in spec["disks"]]
    play.folder.update({"wn1-root.qcow2": (1, 1), "wn1-data.qcow2": (1, 1)})
    play.target.folders[f"{play.pool}/builds"].clear()
    plan = look(play, spec=spec)
    assert plan.copied == () and plan.arriving == () and plan.leaving == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mark": None}, "does not carry this collection's mark"),
        ({"state": "crashed"}, "it has crashed"),
        ({"persistent": False}, "the domain is transient"),
        ({"disks": ()}, "it has no disk of ours"),
        ({"seed": None, "nics": ({"bridge": "br7"}, {"bridge": "br8"})}, "bridge br7 is missing on node02"),
    ],
)
def test_what_the_guest_is(play: Stage, changes: dict[str, t.Any], words: str) -> None:
    play.driver.changes = changes
    assert words in why(play)


@pytest.mark.parametrize(
    ("native", "words"),
    [
        ({"job": "backup"}, "a job is active on it (backup)"),
        ({"suspended": True}, "suspended itself"),
    ],
)
def test_what_the_guest_does(play: Stage, native: dict[str, t.Any], words: str) -> None:
    play.driver.native = native
    assert words in why(play)


def test_what_does_not_travel(play: Stage) -> None:
    play.driver.domain = Domain(libvirt.VIR_DOMAIN_SHUTOFF)
    play.driver.domain.snapshots = play.driver.domain.saved = 1
    reasons = why(play)
    assert "libvirt snapshots" in reasons and "managedsave" in reasons, "all reasons at once"


def test_a_paused_guest_cannot_be_shut_down(play: Stage) -> None:
    play.driver.changes = {"state": "paused"}
    assert "paused and cannot be shut down" in why(play, mode="cold")
    assert look(play, mode="live").live


def test_a_stopped_guest_asked_for_live_is_moved_cold_and_said(play: Stage) -> None:
    play.driver.domain = Domain(libvirt.VIR_DOMAIN_SHUTOFF)
    plan = look(play, mode="live")
    assert not plan.live and not plan.restart
    assert plan.warnings == ("guest wn1: live was asked for, but it is stopped: moved cold",)
    assert look(play, mode="auto").warnings == ()


@pytest.mark.parametrize(
    ("stone", "words"),
    [
        (Tombstone(UUID, 2, MOVED, "wn1", "node03"), "the spec is stale"),
        (Tombstone(UUID, 1, MOVING, "wn1", "node03", "move-0"), "was interrupted here; run oscarv.virt.settle"),
        (Tombstone(UUID, 2, MOVING, "wn1", "node03", "move-0"), "run oscarv.virt.settle"),
    ],
)
def test_tombstones(play: Stage, stone: Tombstone, words: str) -> None:
    play.driver.tombstones.write(stone)
    assert words in why(play)


def test_identity(play: Stage) -> None:
    assert "epoch 1 is not newer than 1" in why(play, spec=plain(epoch=1))
    assert "says guest wn1 of cluster demo, not of other" in why(play, spec=plain(cluster="other"))
    play.driver.domain = None
    assert "no domain with uuid" in why(play)


def test_the_target_has_it_or_its_name(play: Stage) -> None:
    play.target.there = Domain(epoch=2)
    assert "node02 has a domain with uuid" in why(play)
    play.target.there, play.target.same_name = None, Domain(epoch=None)
    assert "another domain that is called wn1" in why(play)


def test_disks_that_are_not_ours(play: Stage) -> None:
    root, data = play.driver.disks()
    play.driver.changes = {"disks": (root, {**data, "name": "vdb", "path": "/srv/other.qcow2"})}
    assert "disk vdb (/srv/other.qcow2) is not one of its spec's" in why(play)
    play.driver.changes = {"disks": ({**root, "backing": "/srv/snapshot.qcow2"}, data)}
    assert "stands on /srv/snapshot.qcow2, which is no build" in why(play)
    play.driver.changes = {"disks": (root, {**data, "size": None})}
    assert "cannot be read as qcow2" in why(play)


def test_builds(play: Stage) -> None:
    builds = play.target.folders[f"{play.pool}/builds"]
    builds[f"{BUILD}.qcow2"] = (99, 64 * MIB)
    assert "has 100 bytes here and 99 on node02" in why(play)
    builds.clear()
    assert f"node02 lacks the build {BUILD}" in why(play)
    assert f"node02 lacks the build {BUILD}" in why(play, coming=("f" * 64,))
    look(play, coming=(BUILD,))
    builds[f"{BUILD}.qcow2"] = (99, 64 * MIB)
    assert "has 100 bytes here and 99 on node02" in why(play, coming=(BUILD,)), "a file with its name is not fetched"


def test_a_kernel_from_outside_must_be_there_too(play: Stage) -> None:
    folder = f"{play.pool}/builds"
    paths = [f"{folder}/{BUILD}.{name}" for name in ("vmlinuz", "initrd.img")]
    for path in paths:
        pathlib.Path(path).write_bytes(b"k" * 10)
    parts = dict(zip(("kernel", "initrd"), paths, strict=True))
    outside = "".join(f"<{tag}>{path}</{tag}>" for tag, path in parts.items()) + "<cmdline>ro</cmdline>"
    domain = t.cast(Domain, play.driver.domain)
    text = domain.xmldesc().replace("</os>", f"{outside}</os>")
    domain.xmldesc = lambda _flags=0: text
    there = play.target.folders[folder]
    words = why(play)
    assert all(f"it boots {path}, which node02 lacks: run oscarv.virt.deploy" in words for path in paths)
    look(play, coming=(BUILD,))
    there[f"{BUILD}.vmlinuz"], there[f"{BUILD}.initrd.img"] = (10, 10), (9, 9)
    assert "initrd.img, which has 10 bytes here and 9 on node02: fetch it anew" in why(play)
    there[f"{BUILD}.initrd.img"] = (10, 10)
    look(play)


def test_pools(play: Stage) -> None:
    play.target.pool_paths = {"local": "/elsewhere"}
    assert f"pool local is at {play.pool} here, on node02: /elsewhere" in why(play)
    play.target.pool_paths = {}
    assert "no such active pool" in why(play)


@pytest.mark.parametrize("name", ["wn1-root.qcow2", "wn1-seed.iso", "wn1.incoming.json"])
def test_a_file_in_the_way(play: Stage, name: str) -> None:
    play.folder[name] = (1, 1)
    assert f"{name} exists on node02 already" in why(play)


def test_a_shared_pool_that_is_not_seen(play: Stage) -> None:
    spec = plain()
    spec["disks"][1]["shared"] = True
    assert "wn1-data.qcow2 cannot be seen on node02: is pool local mounted?" in why(play, spec=spec)


@pytest.mark.parametrize("name", ["live_move", "live_move_local_disk"])
def test_capabilities(play: Stage, name: str) -> None:
    play.driver.lacking = {name: "no KVM"}
    assert f"capability {name} is missing on this HostOS: no KVM" in why(play)
    play.driver.domain = Domain(libvirt.VIR_DOMAIN_SHUTOFF)
    assert not look(play).live


def test_where_the_target_cannot_tell_its_bridges_the_move_may_try(play: Stage) -> None:
    play.target.devices = None
    assert look(play).live


def test_kinds_and_cpus(play: Stage) -> None:
    play.target.connection = Connection(kinds=("qemu",))
    assert "node02 cannot run its kind of domain (kvm, x86_64, q35): unsupported virttype kvm" in why(play)
    play.driver.domain = Domain(cpu=CUSTOM)
    play.target.connection = Connection(fits=False)
    assert "the CPU of node02 cannot do what the guest's has (Skylake)" in why(play)
    play.driver.connection = Connection(fits=False)
    assert look(play).live, "an emulated CPU lacks as much here, where the guest runs"


@pytest.mark.parametrize("mode", ["host-passthrough", "maximum"])
def test_a_cpu_handed_through_is_compared_as_the_source_describes_it(play: Stage, mode: str) -> None:
    play.driver.domain = Domain(cpu=f"<cpu mode='{mode}'/>")
    play.target.connection = Connection(fits=False)
    assert "the CPU of node02 cannot do" in why(play)
    play.driver.domain.code = libvirt.VIR_DOMAIN_SHUTOFF
    assert not look(play).live, "a stopped guest gets the target's CPU when it starts"


def test_certificates(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pki = play.driver.pool / "pki"
    pki.mkdir()
    config = play.driver.pool / "qemu.conf"
    config.write_text('default_tls_x509_cert_dir = "/nowhere"\n# migrate_tls_x509_cert_dir = "/no"\n')
    assert str(fit.qemu_pki(str(config))) == "/nowhere"
    config.write_text(f'default_tls_x509_cert_dir = "/nowhere"\nmigrate_tls_x509_cert_dir = "{pki}"\n')
    monkeypatch.setattr(fit, "QEMU_CONF", str(config))
    assert "cannot be encrypted" in why(play, plaintext=False)
    for name in ("ca-cert.pem", "client-cert.pem", "client-key.pem"):
        (pki / name).write_text("x")
    assert look(play, plaintext=False).live
    assert str(fit.qemu_pki("/does/not/exist")) == fit.QEMU_PKI
