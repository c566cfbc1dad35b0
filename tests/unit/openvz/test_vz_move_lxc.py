# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cold moves from a node of the double to a HostOS with LXC: stand-ins for ssh, virsh and what needs a kernel."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError, MoveRequest
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import read_mark
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_files import Receipt, make_durable
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import parse, view
from ansible_collections.oscarv.virt.plugins.module_utils._openvz import OpenVzDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, MOVING
from ansible_collections.oscarv.virt.plugins.module_utils._vz_ids import device_of
from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output, execute
from vz_node import Node
from vz_plain import MIB, UUID, plain

BUILD = "ab" * 32
CTID = device_of(UUID)

VIRSH = """#!{python}
import json, pathlib, sys
here = pathlib.Path("{far}")
words = sys.argv[1:]
assert words[:3] == ["-q", "-c", "lxc:///system"], words
verb, *rest = words[3:]
with open(here / "virsh.log", "a") as log:
    log.write(" ".join([verb, *rest]) + "\\n")
if (here / f"fail-{{verb}}").exists():
    sys.exit(f"error: {{verb}} was ordered to fail")
book = here / "domains.json"
domains = json.loads(book.read_text()) if book.exists() else {{}}
if verb == "list":
    for uuid, one in domains.items():
        print(uuid, one["name"] if "--name" in rest else "")
elif verb == "pool-dumpxml":
    if rest[0] != "local":
        sys.exit("error: no such pool")
    print(f"<pool type='dir'><name>local</name><target><path>{{here}}/pool</path></target></pool>")
elif verb == "define":
    import xml.etree.ElementTree as ET
    text = pathlib.Path(rest[0]).read_text()
    tree = ET.fromstring(text)
    domains[tree.findtext("uuid")] = {{"name": tree.findtext("name"), "xml": text, "state": "shut off", "boot": False}}
elif rest[-1] not in domains:
    sys.exit("error: failed to get domain")
elif verb == "dumpxml":
    print(domains[rest[-1]]["xml"])
elif verb == "start":
    domains[rest[0]]["state"] = "running"
elif verb == "autostart":
    domains[rest[0]]["boot"] = True
elif verb == "domstate":
    print(domains[rest[0]]["state"])
book.write_text(json.dumps(domains))
"""

#: What needs a kernel: a "mounted" file gets its content as a folder beside it when it is "unmounted".
SHIMS = {
    "ssh": 'while [ "$1" = -o ]; do shift 2; done\n[ -e {far}/deaf ] && exit 255\nshift\nexec sh -c "$*"',
    "mke2fs": 'for last; do :; done\necho "$*" > "$last.made"',
    "e2fsck": "[ ! -e {far}/broken ]",
    "unshare": 'while [ "$1" != bash ]; do shift; done\nexec "$@"',
    "mount": 'for last; do before=${{disk-}} disk=${{word-}} word=$last; done\necho "$disk" > {far}/mounted',
    "umount": 'read -r disk < {far}/mounted\ncp -a "$1" "$disk.content"\nfind "$1" -mindepth 1 -delete',
}


class Far:
    """The target. `content` is what came into the container's file system."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "pool").mkdir(parents=True)
        (folder / "net/br0/bridge").mkdir(parents=True)
        shims = folder / "bin"
        shims.mkdir()
        for name, text in SHIMS.items():
            (shims / name).write_text(f"#!/bin/bash\n{text.format(far=folder)}\n")
        (shims / "virsh").write_text(VIRSH.format(python=sys.executable, far=folder))
        for shim in shims.iterdir():
            shim.chmod(0o755)
        monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
        from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move_lxc

        monkeypatch.setattr(_vz_move_lxc, "_CHECK", _vz_move_lxc._CHECK.replace("/sys/class/net", str(folder / "net")))

    @property
    def disk(self) -> pathlib.Path:
        return self.folder / "pool/demo/wn001-root.ext4"

    @property
    def content(self) -> pathlib.Path:
        return self.disk.with_name(f"{self.disk.name}.content")

    @property
    def domains(self) -> dict[str, t.Any]:
        book = self.folder / "domains.json"
        return t.cast("dict[str, t.Any]", json.loads(book.read_text())) if book.exists() else {}

    def order(self, what: str) -> None:
        (self.folder / what).touch()


class Move:
    def __init__(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = Node(tmp_path / "source")
        self.node.template(f"debian-{BUILD}")
        self.state_dir = str(tmp_path / "state")
        self.far = Far(tmp_path / "far", monkeypatch)

    def _execute(self, words: t.Sequence[str], timeout: float) -> t.Any:
        return self.node.execute(words, timeout) if words[0].startswith("vz") else execute(words, timeout)

    def driver(self) -> OpenVzDriver:
        return OpenVzDriver(Options(state_dir=self.state_dir, root=str(self.node.root)), "demo", self._execute)

    def up(self, **changes: t.Any) -> None:
        (outcome,) = reconcile(self.driver(), Wish("demo", [spec(**changes)]), check=False).outcomes
        assert outcome.error is None, outcome.error
        # The double mounts nothing in unit tests.
        root = self.node.root / f"vz/root/{CTID}/root"
        root.mkdir(parents=True, exist_ok=True)
        (root / "data").write_text("precious")
        (root / "link").symlink_to("/nowhere")
        (root / "data").chmod(0o640)

    def request(self, **changes: t.Any) -> MoveRequest:
        wanted = GuestSpec.from_plain(spec(epoch=2))
        request = MoveRequest(wanted, "node02", "10.0.0.2", "cold", move="m1", hypervisor="lxc")
        return dataclasses.replace(request, **changes)

    def go(self, **changes: t.Any) -> t.Any:
        return _vz_move.move(self.driver(), self.request(**changes), _vz_move.Far("node02", "10.0.0.2"))

    @property
    def state(self) -> str:
        seen = self.driver().observe_all().guests.get(UUID)
        return seen.state if seen else "absent"

    @property
    def stone(self) -> t.Any:
        return self.driver().tombstones.get(UUID)


@pytest.fixture
def move(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Move:
    return Move(tmp_path, monkeypatch)


def spec(**changes: t.Any) -> dict[str, t.Any]:
    disks = [{"name": "root", "size": 3072 * MIB, "pool": "local", "build_id": BUILD}]
    return plain(**{"disks": disks, **changes})


def test_it_arrives_with_everything_and_is_gone_here(move: Move) -> None:
    move.up()
    before = move.driver().observe_all().guests[UUID].mark
    assert before is not None and before.host_key
    result = move.go()
    assert (result.moved, result.state, result.mode, result.message) == (True, "running", "cold", "")
    assert (move.state, move.stone.state, move.stone.epoch) == ("absent", MOVED, 1)
    assert not (move.node.root / f"vz/private/{CTID}").exists()
    there = move.far.domains[UUID]
    assert (there["name"], there["state"], there["boot"]) == ("wn001", "running", True)
    domain = parse(there["xml"])
    seen = view(domain)
    assert (seen.domain_type, seen.uuid, seen.vcpus, seen.memory) == ("lxc", UUID, 2, 512 * MIB)
    assert [(nic.mac, nic.bridge) for nic in seen.nics] == [("52:54:00:00:00:01", "br0")]
    assert [(disk.target, disk.path) for disk in seen.disks] == [("/", str(move.far.disk))]
    assert read_mark(domain) == dataclasses.replace(before, epoch=2)
    assert move.far.disk.stat().st_size == 3072 * MIB
    data = move.far.content / "root/data"
    assert (data.read_text(), data.stat().st_mode & 0o777) == ("precious", 0o640)
    assert os.readlink(move.far.content / "root/link") == "/nowhere"
    made = (move.far.folder / "pool/demo/wn001-root.ext4.made").read_text()
    assert "-U abababab-abab-abab-abab-abababababab" in made, "the driver there knows its build by it"
    assert not list((move.far.folder / "pool/demo").glob("*.incoming.json"))
    (stale,) = reconcile(move.driver(), Wish("demo", [spec()]), check=False).outcomes
    assert stale.error is not None and "moved away" in stale.error


def test_a_stopped_one_stays_stopped_and_is_not_started_there_at_boot(move: Move) -> None:
    move.up(state="stopped")
    result = move.go(spec=GuestSpec.from_plain(spec(epoch=2, state="stopped")), mode="auto")
    assert (result.state, move.far.domains[UUID]["state"]) == ("stopped", "shut off")
    assert not move.far.domains[UUID]["boot"]


@pytest.mark.parametrize("fault", ["stop", "broken", "fail-define"])
def test_one_that_fails_stays_as_it_was(move: Move, fault: str) -> None:
    move.up()
    if fault == "stop":
        move.node.fault("stop 33 1")
    else:
        move.far.order(fault)
    with pytest.raises(_vz_move.NotMoved, match="stays here"):
        move.go()
    seen = move.driver().observe_all().guests[UUID]
    assert (seen.state, seen.autostart, move.stone, move.far.domains) == ("running", True, None, {})
    assert not [
        path.name for path in (move.far.folder / "pool").rglob("wn001*") if path.name.endswith(("ext4", "json"))
    ]
    assert (move.node.root / f"vz/private/{CTID}").exists()


def test_a_file_that_came_meanwhile_is_not_touched(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move_lxc

    move.up()
    before = _vz_move_lxc._RECEIVE
    monkeypatch.setattr(_vz_move_lxc, "_RECEIVE", f'mkdir -p "$(dirname "$1")"; echo foreign > "$1"\n{before}')
    with pytest.raises(_vz_move.NotMoved, match="failed"):
        move.go()
    assert move.far.disk.read_text() == "foreign\n" and move.state == "running"


def test_one_whose_end_is_not_certain_is_started_nowhere(move: Move) -> None:
    move.up()
    move.far.order("fail-dumpxml")
    with pytest.raises(_vz_move.Unsettled, match="oscarv.virt.settle"):
        move.go()
    assert (move.state, move.stone.state, move.far.domains[UUID]["state"]) == ("stopped", MOVING, "shut off")
    receipt = json.loads((move.far.folder / "pool/demo/wn001.incoming.json").read_text())
    found = Receipt(**{**receipt, "files": tuple(receipt["files"])})
    make_durable(found.files)  # what it does once the move is committed after all
    assert (found.uuid, found.epoch, found.files) == (UUID, 2, (str(move.far.disk),)), (
        "what the driver there cleans up by"
    )
    assert (move.node.root / f"vz/private/{CTID}").exists(), "the only copy that is known to be whole"


def test_what_goes_wrong_after_the_proof_is_told_and_undoes_nothing(move: Move) -> None:
    move.up()
    move.far.order("fail-start")
    result = move.go()
    assert (result.moved, result.state) == (True, "stopped") and "is on node02 now, but" in result.message
    assert (move.state, move.stone.state) == ("absent", MOVED)


def test_refusals_change_nothing(move: Move) -> None:
    move.up()

    def refused(named: str, **changes: t.Any) -> None:
        request = move.request(**changes)
        for act in (_vz_move.check_move, _vz_move.move):
            with pytest.raises(_vz_move.Refused, match=named):
                act(move.driver(), request, _vz_move.Far("node02", "10.0.0.2"))
        assert (move.state, move.stone) == ("running", None)
        assert not (move.far.folder / "pool/demo").exists() or list((move.far.folder / "pool/demo").iterdir()) == [
            move.far.disk
        ]

    refused("does not go to lxc: move it cold", mode="live")
    disks = [{"name": "root", "size": 3072 * MIB, "pool": "san", "build_id": BUILD}]
    refused("has no pool 'san'", spec=GuestSpec.from_plain(spec(epoch=2, disks=disks)))
    disks = [{"name": "root", "size": MIB, "pool": "local", "build_id": BUILD}]
    (move.node.root / f"vz/private/{CTID}/big").write_bytes(b"x" * 2 * MIB)
    refused("its files here have", spec=GuestSpec.from_plain(spec(epoch=2, disks=disks)))
    (move.far.folder / "net/br0/bridge").rmdir()
    refused("bridge br0 is missing there")
    (move.far.folder / "net/br0/bridge").mkdir()
    move.far.disk.parent.mkdir()
    move.far.disk.touch()
    refused("wn001-root.ext4 is there already")
    (move.far.folder / "domains.json").write_text(json.dumps({"other": {"name": "wn001"}}))
    refused("has another domain called wn001")
    (move.far.folder / "domains.json").write_text(json.dumps({UUID: {"name": "wn001"}}))
    refused("has a domain of its uuid")
    move.far.order("deaf")
    refused("hostos_openvz_moves_to_lxc: true")
    conf = move.node.root / f"etc/vz/conf/{CTID}.conf"
    conf.write_text(conf.read_text() + 'LOCAL_UID="100000"\n')
    refused("its users are shifted")


def test_the_domain_is_sent_as_it_is(move: Move) -> None:
    """Quotes and signs of the shell in a host key's comment reach the target's libvirt untouched."""
    move.up()
    ugly = 'ssh-ed25519 AAAA it\'s "$HOME" `id` & <b>'
    network = [{"name": "eth0", "network": ugly, "mac": "52:54:00:00:00:01", "bridge": "br0", "addresses": []}]
    result = move.go(spec=GuestSpec.from_plain(spec(epoch=2, nics=network)))
    assert result.message == ""
    mark = read_mark(ET.fromstring(move.far.domains[UUID]["xml"]))
    assert mark is not None and mark.nics[0]["network"] == ugly


@pytest.mark.parametrize(
    ("here", "there", "seconds", "named"),
    [
        ("echo x; exit 3", "cat", 60, r"failed \(3, 0\)"),
        ("yes", "exit 4", 60, r"failed \(-?\d+, 4\)"),
        ("echo x >&2; sleep 60", "cat", 0.5, "took longer than 0.5 s"),
    ],
)
def test_a_copy_fails_with_either_side(move: Move, here: str, there: str, seconds: float, named: str) -> None:
    with pytest.raises(DriverError, match=named):
        _vz_move.Far("node02", "10.0.0.2").send(["sh", "-c", here], ["sh", "-c", there], seconds)


def test_an_error_of_the_proof_is_unsettled(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move_lxc

    def broken(*_arguments: object) -> t.NoReturn:
        raise DriverError("this was ordered to fail")

    move.up()
    monkeypatch.setattr(_vz_move_lxc, "read_status", broken)
    with pytest.raises(_vz_move.Unsettled, match="this was ordered to fail.*oscarv.virt.settle"):
        move.go()
    assert move.stone.state == MOVING


def test_an_error_while_taking_back_does_not_hide_the_first(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    move.up()
    move.far.order("broken")
    inner = move._execute

    def execute_(words: t.Sequence[str], timeout: float) -> t.Any:
        return Output(41, "", "no yes") if list(words[-2:]) == ["yes", "--save"] else inner(words, timeout)

    monkeypatch.setattr(move, "_execute", execute_)
    with pytest.raises(_vz_move.Unsettled, match="copying to node02 failed.*not as it was.*no yes"):
        move.go()
    assert move.stone.state == MOVING


def test_a_tombstone_that_cannot_be_written_is_told_and_undoes_nothing(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import Tombstones

    move.up()
    write = Tombstones.write

    def full(self: Tombstones, stone: t.Any) -> None:
        if stone.state == MOVED:
            raise OSError("no space left")
        write(self, stone)

    monkeypatch.setattr(Tombstones, "write", full)
    result = move.go()
    assert (result.moved, "no space left" in result.message) == (True, True)


def test_a_copy_that_cannot_be_destroyed_is_not_called_gone(move: Move) -> None:
    move.up()
    move.node.fault("destroy 41 1")
    result = move.go()
    assert (result.moved, result.state, result.gone_from_source, result.removed) == (True, "running", False, ())
    assert f"its old copy, container {CTID}, is still here (stopped)" in result.message
    assert f"`vzctl destroy {CTID}`" in result.message and "code 41" in result.message
    assert (move.state, move.stone.state, move.stone.epoch) == ("stopped", MOVED, 1)
    (stale,) = reconcile(move.driver(), Wish("demo", [spec()]), check=False).outcomes
    assert stale.error is not None and "moved away" in stale.error and move.state == "stopped"


def test_one_that_is_mounted_at_the_end_is_unmounted_and_destroyed(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move_lxc

    move.up()
    prove = _vz_move_lxc._Flight._prove

    def looked_into(flight: t.Any) -> None:
        prove(flight)
        move.node.good("vzctl", "mount", CTID)

    monkeypatch.setattr(_vz_move_lxc._Flight, "_prove", looked_into)
    result = move.go()
    assert (result.message, result.gone_from_source, move.state) == ("", True, "absent")
    assert result.removed == (f"/vz/private/{CTID}",) and not (move.node.root / f"vz/private/{CTID}").exists()


def test_a_failed_umount_does_not_hide_why_the_copy_failed(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    move.up()
    move.far.order("broken")
    inner = move._execute

    def execute_(words: t.Sequence[str], timeout: float) -> t.Any:
        return Output(41, "", "busy") if "umount" in words else inner(words, timeout)

    monkeypatch.setattr(move, "_execute", execute_)
    with pytest.raises(_vz_move.NotMoved, match="copying to node02 failed"):
        move.go()
    assert (move.state, move.stone) == ("running", None)
