# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver in the dialect vz7, as the reference reads its sources. UNTESTED on any vzctl 7 to 9: nobody has seen one.

The tools are played: what is looked at is which commands the driver gives, and what it makes of answers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move
from ansible_collections.oscarv.virt.plugins.module_utils._driver import MoveRequest
from ansible_collections.oscarv.virt.plugins.module_utils._openvz import OpenVzDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Outcome, Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._vz_conf import read_conf
from ansible_collections.oscarv.virt.plugins.module_utils._vz_list import VZ7_FIELDS
from ansible_collections.oscarv.virt.plugins.module_utils._vz_mark import describe
from ansible_collections.oscarv.virt.plugins.module_utils._vz_new import mark_of
from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output
from ansible_collections.oscarv.virt.plugins.module_utils._vz_settings import wanted
from vz_plain import MIB, UUID, plain

#: stderr that vz7 prints on every action and that is no failure.
NOISE = "WARNING: You are using a deprecated CLI component that will be dropped in the next major release.\n"


BUILD = "ab" * 32


def with_build(**changes: t.Any) -> dict[str, t.Any]:
    disks = [{"name": "root", "size": 3072 * MIB, "pool": "local", "build_id": BUILD}]
    return plain(**{"disks": disks, **changes})


class Vz7:
    """One container of ours, whose configuration says what the spec says; or, after `empty`, none yet."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.status = "running"
        self.mounted = False
        self.commands: list[list[str]] = []
        self.codes: dict[str, int] = {}
        self.liars: set[str] = set()  #: verbs that do nothing and return 0
        spec = GuestSpec.from_plain(plain())
        self.description = describe(mark_of(spec, build_id=None, host_key="ssh-ed25519 AAAA"), UUID)
        shape = wanted(spec)
        nic = shape.nics[0]
        lines = {
            "PHYSPAGES": f"{512 * MIB // 4096}:{512 * MIB // 4096}",
            "SWAPPAGES": "0:0",
            "CPUS": "2",
            "DISKSPACE": f"{3072 * 1024}:{3072 * 1024}",
            # the order of the keys is another one than legacy's
            "NETIF": f"ifname=eth0,mac={nic.mac.upper()},host_mac={nic.host_mac.upper()},host_ifname={nic.host_ifname},"
            "network=br0,configure=none",
            "HOSTNAME": shape.hostname,
            "NAMESERVER": "10.0.4.2",
            "NAME": "wn001",
            "ONBOOT": "yes",
            "DESCRIPTION": self.description,
        }
        self.conf = folder / f"etc/vz/conf/{UUID}.conf"
        self.conf.parent.mkdir(parents=True)
        self.conf.write_text("".join(f'{key}="{value}"\n' for key, value in lines.items()))

    def empty(self) -> None:
        """No container; a template of our build, and an EZ template that the node makes containers of."""
        self.status = "absent"
        self.conf.unlink()
        (self.folder / "etc/vz/vz.conf").write_text("TEMPLATE=/vz/template\nDEF_OSTEMPLATE=.almalinux-8\n")
        content, cache = self.folder / "content", self.folder / "vz/template/cache"
        (content / "etc").mkdir(parents=True)
        (content / "etc/hostname").write_text("ours\n")
        cache.mkdir(parents=True)
        words = ["tar", "-C", str(content), "-czf", str(cache / f"debian-{BUILD}.tar.gz"), "."]
        subprocess.run(words, check=True)

    @property
    def root(self) -> pathlib.Path:
        """Where its disk image is mounted; it keeps its files while it is not."""
        return self.folder / "vz/root" / UUID

    def _create(self, words: list[str]) -> None:
        self.description = words[words.index("--description") + 1]
        self.conf.write_text(f'NAME="wn001"\nDESCRIPTION="{self.description}"\n')
        self._write("DISKSPACE", f"{10 * 2**20}:{10 * 2**20}")  # as its samples have it
        self._write("ONBOOT", "yes")
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/redhat-release").write_text("of the EZ template\n")
        self.status = "stopped"

    def _set(self, words: list[str]) -> None:
        nics = []
        keys = {"--cpus": "CPUS", "--hostname": "HOSTNAME", "--nameserver": "NAMESERVER", "--diskspace": "DISKSPACE"}
        keys.update({"--onboot": "ONBOOT", "--description": "DESCRIPTION", "--distribution": "DISTRIBUTION"})
        sizes = {"--ram": "PHYSPAGES", "--swap": "SWAPPAGES"}
        for option, value in zip(words, words[1:], strict=False):
            if option in keys:
                self._write(keys[option], value)
            elif option in sizes:
                self._write(sizes[option], f"{int(value) // 4096}:{int(value) // 4096}")
            elif option == "--netif_add":
                ifname, mac, host_ifname, host_mac = value.split(",")
                nics.append(f"ifname={ifname},mac={mac},host_mac={host_mac},host_ifname={host_ifname}")
            elif option == "--network":
                netif = read_conf(self.conf.read_text())["NETIF"]
                self._write("NETIF", f"{netif},network={value}")
        if nics:
            self._write("NETIF", ";".join(nics))
        if "--description" in words:
            self.description = words[words.index("--description") + 1]

    def _write(self, key: str, value: str) -> None:
        with self.conf.open("a") as file:
            file.write(f'{key}="{value}"\n')

    @property
    def acts(self) -> list[list[str]]:
        """Without what is set: whether it starts with its HostOS follows from its state."""
        return [words for words in self.commands if words[1] != "set"]

    def row(self) -> dict[str, t.Any]:
        row: dict[str, t.Any] = dict.fromkeys(VZ7_FIELDS.split(","))
        pages = {"held": 1, "maxheld": 1, "barrier": 131072, "limit": 131072, "failcnt": 0}
        row.update(uuid=UUID, ctid=UUID, private=f"/vz/private/{UUID}", name="wn001", hostname="wn001")
        row.update(description=self.description, ip=["-"], status=self.status, physpages=pages, cpus=2, onboot=True)
        return row

    def execute(self, argv: t.Sequence[str], timeout: float) -> Output:
        words = list(argv)
        if words == ["vzctl", "--version"]:
            return Output(0, "vzctl version 7.0.258\n", "")
        if words[0] == "vzlist":
            assert words[:5] == ["vzlist", "-a", "-j", "-o", VZ7_FIELDS], "without -o vz7 leaves fields out"
            there = self.status != "absent"
            return Output(0 if there or len(words) == 5 else 1, json.dumps([self.row()] if there else []), NOISE)
        if words[1] == "status":
            if self.status == "absent":
                return Output(0, f"VEID {UUID} deleted unmounted down\n", "")
            power = "down" if self.status == "stopped" else self.status
            mounted = "mounted" if self.mounted or power in ("running", "paused") else "unmounted"
            return Output(0, f"VEID {UUID} exist {mounted} {power}\n", "")
        self.commands.append(words)
        code = next((self.codes[word] for word in words if word in self.codes), 0)
        if code == 0 and words[1] not in self.liars:
            after = {"pause": "paused", "chkpnt": "running", "start": "running", "stop": "stopped"}
            after.update({"suspend": "suspended", "resume": "running"})
            self.status = after.get(words[1], self.status)
            self.mounted = {"mount": True, "umount": False}.get(words[1], self.mounted)
            if words[1] == "create":
                self._create(words)
            if words[1] == "set":
                self._set(words)
            if words[0] == "vzmigrate" and "--dry-run" not in words:
                self.status = "absent"
        return Output(code, "", NOISE)

    def driver(self, **consents: t.Any) -> OpenVzDriver:
        options = Options(state_dir=str(self.folder / "state"), root=str(self.folder), **consents)
        return OpenVzDriver(options, "demo", self.execute)

    def guest(self, **changes: t.Any) -> Outcome:
        consents = {"remove_disks": changes.pop("remove_disks", False)}
        (outcome,) = reconcile(self.driver(**consents), Wish("demo", [plain(**changes)]), check=False).outcomes
        return outcome


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Vz7:
    return Vz7(tmp_path)


def test_what_is_as_wished_is_left_alone(node: Vz7) -> None:
    outcome = node.guest()
    assert (outcome.error, outcome.changed, node.commands) == (None, False, [])
    seen = node.driver().observe_all().guests[UUID]
    assert (seen.name, seen.state, seen.vcpus, seen.memory, seen.memory_live) == (
        *("wn001", "running", 2),
        *(512 * MIB, 512 * MIB),
    )


def test_pausing_has_a_verb_and_a_state_of_its_own(node: Vz7) -> None:
    assert node.guest(state="paused").error is None
    assert node.acts == [["vzctl", "pause", UUID]]
    assert node.driver().observe_all().guests[UUID].state == "paused"
    assert not (node.folder / "state/openvz-paused").exists(), "no note is needed where the tools tell"
    assert not node.guest(state="paused").changed
    assert node.guest().error is None
    assert node.acts[1:] == [["vzctl", "chkpnt", UUID, "--resume"]]


def test_a_nic_is_put_onto_its_network_in_a_second_step(node: Vz7) -> None:
    nic = {**plain()["nics"][0], "bridge": "br7"}
    assert node.guest(nics=[nic], vcpus=3).error is None
    first, second = node.commands
    assert first[:5] == ["vzctl", "set", UUID, "--cpus", "3"] and first[-1] == "--save"
    assert first[first.index("--netif_add") + 1].startswith("eth0,52:54:00:00:00:01,veth")
    assert second == ["vzctl", "set", UUID, "--ifname", "eth0", "--network", "br7", "--save"]


def test_stop_and_start(node: Vz7) -> None:
    assert node.guest(state="stopped").error is None
    assert node.guest().error is None
    assert node.acts == [["vzctl", "stop", UUID], ["vzctl", "start", UUID]]


def test_its_own_codes_are_told_in_words(node: Vz7) -> None:
    node.codes["set"] = 137
    assert "code 137: the name is taken or not valid" in str(node.guest(vcpus=4).error)
    node.codes["set"] = 226
    assert "vcmmd" in str(node.guest(vcpus=4).error)


@pytest.fixture
def bare(node: Vz7, monkeypatch: pytest.MonkeyPatch) -> Vz7:
    node.empty()
    monkeypatch.setattr(os.path, "ismount", lambda path: node.mounted and pathlib.Path(path) == node.root)
    return node


def test_one_is_made_of_the_nodes_own_template_and_filled_with_the_build(bare: Vz7) -> None:
    for check in (True, False):
        (done,) = reconcile(bare.driver(), Wish("demo", [with_build()]), check=check).outcomes
        assert done.error is None, done.error
        assert done.steps == ["create", "configure", "fill its root", "write seed", "start"]
        assert bool(bare.commands) is not check
    create, configure, network, *rest = bare.commands
    assert create[:6] == ["vzctl", "create", UUID, "--ostemplate", ".almalinux-8", "--skip_app_templates"]
    assert "--netif_add" in configure and network[3:] == ["--ifname", "eth0", "--network", "br0", "--save"]
    verbs = [words[1] for words in rest]
    assert verbs == ["mount", "umount", "set", "mount", "umount", "set", "start"]
    assert rest[2][3:5] == ["--distribution", "debian"]
    assert (bare.root / "etc/hostname").read_text() == "ours\n"
    assert not (bare.root / "etc/redhat-release").exists()
    assert sorted(path.name for path in (bare.root / "var/lib/cloud/seed/nocloud").iterdir()) == [
        *("meta-data", "network-config", "user-data"),
    ]
    mark = bare.driver().observe_all().guests[UUID].mark
    assert mark is not None and mark.build_id == BUILD and mark.host_key is not None
    bare.commands.clear()
    (again,) = reconcile(bare.driver(), Wish("demo", [with_build()]), check=False).outcomes
    assert (again.error, again.changed, bare.commands) == (None, False, [])
    reached = with_build(first_contact=True)
    (done,) = reconcile(bare.driver(), Wish("demo", [reached]), check=False).outcomes
    assert done.steps == ["delete seed"] and not list((bare.root / "var/lib/cloud/seed/nocloud").iterdir())


@pytest.mark.parametrize("verb", ["mount", "umount", "set", "--distribution"])
@pytest.mark.parametrize("wish", [{}, {"first_contact": True, "recreate": True}], ids=["new", "anew"])
def test_one_whose_making_was_interrupted_is_filled_before_it_starts(
    bare: Vz7, verb: str, wish: dict[str, t.Any]
) -> None:
    bare.codes[verb] = 3
    (broken,) = reconcile(bare.driver(), Wish("demo", [with_build(**wish)]), check=False).outcomes
    assert broken.error is not None and bare.status == "stopped"
    seen = bare.driver().observe_all().guests[UUID]
    assert seen.mark is not None and seen.mark.build_id is None and seen.mark.host_key is None
    assert seen.autostart == (verb == "set"), "it does not come up with the files of the node's template"
    bare.codes.clear()
    bare.status = "running"  # somebody started it
    (refused,) = reconcile(bare.driver(), Wish("demo", [with_build(**wish)]), check=False).outcomes
    assert f"`vzctl stop {UUID}`" in str(refused.error)
    bare.status = "stopped"
    (done,) = reconcile(bare.driver(), Wish("demo", [with_build(**wish)]), check=False).outcomes
    assert done.error is None and done.steps[-3:] == ["fill its root", "write seed", "start"], done
    assert (bare.root / "etc/hostname").read_text() == "ours\n" and bare.status == "running"
    assert bare.driver().observe_all().guests[UUID].autostart
    (again,) = reconcile(bare.driver(), Wish("demo", [with_build()]), check=False).outcomes
    assert (again.error, again.changed) == (None, False)


def test_nothing_is_deleted_where_nothing_is_mounted(bare: Vz7, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: False)
    (broken,) = reconcile(bare.driver(), Wish("demo", [with_build()]), check=False).outcomes
    assert "nothing is mounted on" in str(broken.error) and bare.commands[-1] == ["vzctl", "umount", UUID]
    assert (bare.root / "etc/redhat-release").exists() and bare.status == "stopped"


def test_without_a_template_of_the_nodes_own_nothing_is_made(bare: Vz7) -> None:
    (bare.folder / "etc/vz/vz.conf").write_text("TEMPLATE=/vz/template\n")
    (broken,) = reconcile(bare.driver(), Wish("demo", [with_build()]), check=False).outcomes
    assert "DEF_OSTEMPLATE in /etc/vz/vz.conf" in str(broken.error) and bare.commands == []


def test_memory_is_saved(node: Vz7) -> None:
    assert node.guest(state="saved").error is None
    assert node.driver().observe_all().guests[UUID].state == "saved"
    assert not node.guest(state="saved").changed
    assert node.guest().error is None
    assert node.acts == [["vzctl", "suspend", UUID], ["vzctl", "resume", UUID]]


def test_code_0_is_no_proof(node: Vz7) -> None:
    node.liars = {"suspend", "resume"}
    assert "vzctl suspend returned 0, but container" in str(node.guest(state="saved").error)
    node.status = "suspended"
    assert "vzctl resume returned 0, but container" in str(node.guest().error)


class There:
    """The other node, over ssh: it has the container when this one has it no more."""

    def __init__(self, node: Vz7) -> None:
        self.node = node
        self.power = "down"
        self.commands: list[list[str]] = []

    def run(self, argv: t.Sequence[str], timeout: float) -> Output:
        words = shlex.split(argv[-1])
        if words[:2] == ["vzctl", "status"]:
            here = self.node.status != "absent"
            return Output(0, f"VEID {UUID} {'deleted unmounted down' if here else f'exist mounted {self.power}'}\n", "")
        self.commands.append(words)
        self.power = "running" if words[1] == "start" else self.power
        return Output(0, "", NOISE)


@pytest.mark.parametrize("mode", ["cold", "live"])
def test_moves(node: Vz7, mode: str) -> None:
    there = There(node)
    there.power = "running" if mode == "live" else "down"
    request = MoveRequest(GuestSpec.from_plain(plain(epoch=2)), "node02", "10.0.0.2", mode, move="m1")
    result = _vz_move.move(node.driver(), request, _vz_move.Far("node02", "10.0.0.2", there.run))
    assert (result.moved, result.mode, result.state, result.message) == (True, mode, "running", "")
    ours = [[word for word in words if not word.startswith("--ssh=")] for words in node.acts]
    move = ["vzmigrate", "-r", "yes", "10.0.0.2", UUID]
    if mode == "live":
        online = [*move[:3], "--online", *move[3:]]
        assert ours == [[*move[:3], "--dry-run", *online[3:]], online]
    else:
        assert ours == [["vzctl", "stop", UUID], move]
    assert [words[1] for words in there.commands] == (["set"] if mode == "live" else ["set", "start"])


def test_one_that_is_not_filled_yet_is_not_moved(bare: Vz7) -> None:
    bare.codes["mount"] = 3
    reconcile(bare.driver(), Wish("demo", [with_build()]), check=False)
    bare.commands.clear()
    request = MoveRequest(GuestSpec.from_plain(with_build(epoch=2)), "node02", "10.0.0.2", "cold", move="m1")
    with pytest.raises(_vz_move.Refused, match="its making was interrupted"):
        _vz_move.move(bare.driver(), request, _vz_move.Far("node02", "10.0.0.2", There(bare).run))
    assert bare.commands == []


def test_what_its_dry_run_finds_refuses_a_live_move(node: Vz7) -> None:
    node.codes["vzmigrate"] = 48
    request = MoveRequest(GuestSpec.from_plain(plain(epoch=2)), "node02", "10.0.0.2", "auto", move="m1")
    with pytest.raises(_vz_move.Refused, match="a live move to an older version is not possible"):
        _vz_move.move(node.driver(), request, _vz_move.Far("node02", "10.0.0.2", There(node).run))
    assert node.status == "running" and [words[0] for words in node.commands] == ["vzmigrate"]


def test_what_was_never_seen_is_refused_before_anything_changes(node: Vz7) -> None:
    assert "remove_disks: true" in str(node.guest(state="absent").error)
    found = node.driver().capabilities()
    assert {name for name in found if not found[name].supported} == {"live_disk", "uefi", "overlay", "rebuild"}
    request = MoveRequest(GuestSpec.from_plain(plain(epoch=2)), "node02", "10.0.0.2", "cold", move="m1")
    with pytest.raises(_vz_move.Refused, match="to lxc from vzctl 4 only"):
        wish = dataclasses.replace(request, hypervisor="lxc")
        _vz_move.move(node.driver(), wish, _vz_move.Far("node02", "10.0.0.2"))
    assert node.commands == []


def test_with_consent_it_is_destroyed(node: Vz7) -> None:
    assert node.guest(state="absent", remove_disks=True).error is None
    assert node.commands == [["vzctl", "stop", UUID], ["vzctl", "destroy", UUID]]
