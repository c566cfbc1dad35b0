# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves between two nodes of the double; a stand-in for ssh runs commands under the other node's root."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shlex
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_move
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError, MoveRequest
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_settle import Action
from ansible_collections.oscarv.virt.plugins.module_utils._openvz import OpenVzDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, MOVING, Tombstone
from ansible_collections.oscarv.virt.plugins.module_utils._vz_ids import device_of
from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output
from vz_node import DOUBLE, Node
from vz_plain import MIB, UUID, plain

BUILD = "ab" * 32
CTID = device_of(UUID)


class Pair:
    """Two HostOSes; the guest runs on the first."""

    def __init__(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.target = Node(tmp_path / "source"), Node(tmp_path / "target")
        for node in (self.source, self.target):
            node.template(f"debian-{BUILD}")
        self.tmp_path = tmp_path
        ssh = tmp_path / "ssh"
        ssh.write_text(
            '#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\nshift\n'
            f"export OPENVZ_DOUBLE_ROOT={self.target.root} OPENVZ_DOUBLE_BACKEND=recording PATH={DOUBLE}:$PATH\n"
            'case "$*" in "/etc/init.d/vz status") exit 0;; esac\nexec sh -c "$*"\n'
        )
        ssh.chmod(0o755)
        monkeypatch.setenv("OPENVZ_DOUBLE_SSH", str(ssh))
        self.asked: list[str] = []
        self.far = _vz_move.Far("node02", "10.0.0.2", self._ssh)
        self.deaf = False

    def _ssh(self, argv: t.Sequence[str], timeout: float) -> Output:
        assert argv[0] == "ssh" and argv[-2] == "root@10.0.0.2"
        if self.deaf:
            return Output(255, "", "Connection refused")
        self.asked.append(argv[-1])
        done: Output = self.target.execute(shlex.split(argv[-1]), timeout)
        return done

    def driver(self, node: Node | None = None) -> OpenVzDriver:
        node = node or self.source
        state_dir = str(self.tmp_path / f"state-{node.root.name}")
        return OpenVzDriver(Options(state_dir=state_dir, root=str(node.root)), "demo", node.execute)

    def up(self, **changes: t.Any) -> None:
        (outcome,) = reconcile(self.driver(), Wish("demo", [spec(**changes)]), check=False).outcomes
        assert outcome.error is None, outcome.error

    def move(self, **changes: t.Any) -> t.Any:
        wanted = GuestSpec.from_plain(spec(epoch=2))
        request = MoveRequest(wanted, "node02", "10.0.0.2", "cold", move="m1")
        return _vz_move.move(self.driver(), dataclasses.replace(request, **changes), self.far)

    def states(self) -> tuple[str, str]:
        found = [self.driver(node).observe_all().guests.get(UUID) for node in (self.source, self.target)]
        return t.cast("tuple[str, str]", tuple(seen.state if seen else "absent" for seen in found))


@pytest.fixture
def pair(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(tmp_path, monkeypatch)


def spec(**changes: t.Any) -> dict[str, t.Any]:
    disks = [{"name": "root", "size": 3072 * MIB, "pool": "local", "build_id": BUILD}]
    return plain(**{"disks": disks, **changes})


def test_a_running_one_runs_there_with_its_new_epoch(pair: Pair) -> None:
    pair.up()
    (pair.source.root / f"vz/private/{CTID}/data").write_text("precious")
    before = pair.driver().observe_all().guests[UUID]
    result = pair.move()
    assert (result.moved, result.state, result.mode, result.message) == (True, "running", "cold", "")
    assert pair.states() == ("absent", "running")
    after = pair.driver(pair.target).observe_all().guests[UUID]
    assert after.mark is not None and before.mark is not None
    assert after.mark == dataclasses.replace(before.mark, epoch=2)
    assert (after.autostart, after.nics, after.name) == (True, before.nics, "wn001")
    assert (pair.target.root / f"vz/private/{CTID}/data").read_text() == "precious"
    stone = pair.driver().tombstones.get(UUID)
    assert stone is not None and (stone.state, stone.epoch, stone.target) == (MOVED, 1, "node02")
    (stale,) = reconcile(pair.driver(), Wish("demo", [spec()]), check=False).outcomes
    assert stale.error is not None and "moved away" in stale.error
    (there,) = reconcile(pair.driver(pair.target), Wish("demo", [spec(epoch=2)]), check=False).outcomes
    assert (there.error, there.changed) == (None, False)


def test_a_stopped_one_stays_stopped(pair: Pair) -> None:
    pair.up(state="stopped")
    assert pair.move(mode="auto").state == "stopped"
    assert pair.states() == ("absent", "stopped")


def loaded(pair: Pair) -> None:
    """Both kernels have their checkpointing modules."""
    for node in (pair.source, pair.target):
        for file in ("cpt", "rst"):
            (node.root / "proc" / file).touch()


def acts(node: Node) -> list[str]:
    """What was done to the container, the oldest first."""
    return t.cast("list[str]", json.loads((node.root / f"vz/double/{CTID}.json").read_text())["acts"])


@pytest.mark.parametrize("mode", ["live", "auto"])
def test_where_kernels_write_memory_down_a_running_one_is_moved_live(pair: Pair, mode: str) -> None:
    pair.up()
    loaded(pair)
    (pair.source.root / f"vz/private/{CTID}/data").write_text("precious")
    result = pair.move(mode=mode)
    assert (result.moved, result.state, result.mode, result.message) == (True, "running", "live", "")
    assert pair.states() == ("absent", "running")
    assert "stop" not in acts(pair.source) and acts(pair.target).count("start") == 1, "it was checkpointed and restored"
    assert (pair.target.root / f"vz/private/{CTID}/data").read_text() == "precious"
    (there,) = reconcile(pair.driver(pair.target), Wish("demo", [spec(epoch=2)]), check=False).outcomes
    assert (there.error, there.changed) == (None, False)
    stone = pair.driver().tombstones.get(UUID)
    assert stone is not None and (stone.state, stone.epoch) == (MOVED, 1)


def test_live_was_asked_for_and_it_does_not_run(pair: Pair) -> None:
    pair.up(state="stopped")
    result = pair.move(mode="live")
    assert (result.mode, result.state) == ("cold", "stopped")
    assert result.warnings == ("guest wn001: live was asked for, but it is stopped: moved cold",)


def test_what_vzmigrate_would_refuse_is_told_before_anything_changes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.up()
    loaded(pair)
    (pair.target.root / "proc/rst").unlink()
    for check in (True, False):
        result = run(pair, monkeypatch, check=check, mode="live")
        assert result["outcome"] == "aborted" and result["refused"]
        assert "code 14: OpenVZ does not run on the target, or checkpointing is missing" in result["msg"]
    assert pair.states() == ("running", "absent") and pair.driver().tombstones.get(UUID) is None
    assert pair.driver().observe_all().guests[UUID].autostart
    (pair.target.root / "proc/rst").touch()
    result = run(pair, monkeypatch, check=True, mode="live")
    assert (result["outcome"], result["mode"]) == ("planned", "live") and "moved live to node02" in result["msg"]
    assert pair.states() == ("running", "absent")


@pytest.mark.parametrize(("node", "fault"), [("source", "suspend 16 1"), ("target", "resume 17 1")])
def test_a_live_move_that_fails_leaves_it_running_here(pair: Pair, node: str, fault: str) -> None:
    pair.up()
    loaded(pair)
    getattr(pair, node).fault(fault)
    with pytest.raises(_vz_move.NotMoved, match="stays here"):
        pair.move(mode="live")
    assert pair.states() == ("running", "absent")
    assert "thaw" not in acts(pair.source), "vzmigrate ended by itself: nothing of its is to be taken back"
    seen = pair.driver().observe_all().guests[UUID]
    assert seen.autostart and seen.mark is not None and seen.mark.epoch == 1
    assert pair.driver().tombstones.get(UUID) is None
    assert pair.move(mode="live").moved


TOO_LONG = DriverError("it took longer than 1 s and was killed")


@contextlib.contextmanager
def killed(pair: Pair, verb: list[str], end: BaseException) -> t.Iterator[None]:
    """vzmigrate gets as far as `vzctl` VERB on the source, and ends with that."""
    execute = pair.source.execute

    def run(argv: t.Sequence[str], timeout: float) -> t.Any:
        if argv[0] != "vzmigrate" or "--dry-run" in argv:
            return execute(argv, timeout)
        pair.source.good("vzctl", *verb)
        raise end

    pair.source.execute = run
    yield
    pair.source.execute = execute


@pytest.mark.parametrize("module", ["gives up", "is killed"])
def test_what_a_killed_vzmigrate_froze_is_resumed(pair: Pair, module: str) -> None:
    """It dumps the memory of the frozen container; neither `status` nor vzlist tells that from one that runs."""
    pair.up()
    loaded(pair)
    end = TOO_LONG if module == "gives up" else KeyboardInterrupt()
    raised = _vz_move.NotMoved if module == "gives up" else KeyboardInterrupt
    with killed(pair, ["chkpnt", CTID, "--suspend"], end), pytest.raises(raised):
        pair.move(mode="live")
    if module == "is killed":
        assert pair.states() == ("paused", "absent")
        assert act(pair, "drop_tombstone")
        pair.up(epoch=2)
    assert acts(pair.source)[-1] == "thaw" and pair.states() == ("running", "absent")
    assert not list(pair.tmp_path.rglob("openvz-paused/*"))


@pytest.mark.parametrize("dump", ["good", "bad"])
def test_what_a_killed_vzmigrate_left_in_a_dump_goes_on_from_there(pair: Pair, dump: str) -> None:
    """By `resume`: `start` would throw away a dump that it cannot restore."""
    pair.up()
    loaded(pair)
    if dump == "bad":
        pair.source.fault("resume 17 1")
    said = "stays here" if dump == "good" else "could not be started again: .*code 17"
    with killed(pair, ["suspend", CTID], TOO_LONG), pytest.raises(_vz_move.NotMoved, match=said):
        pair.move(mode="live")
    assert pair.states() == (("running", "absent") if dump == "good" else ("saved", "absent"))
    assert (pair.source.root / f"vz/dump/Dump.{CTID}").exists() == (dump == "bad")


def test_one_that_is_down_there_after_a_live_move_is_not_called_moved(pair: Pair) -> None:
    pair.up()
    loaded(pair)
    execute = pair.source.execute

    def falls(argv: t.Sequence[str], timeout: float) -> t.Any:
        output = execute(argv, timeout)
        if argv[0] == "vzmigrate" and "--dry-run" not in argv:
            pair.target.good("vzctl", "stop", CTID)
        return output

    pair.source.execute = falls
    with pytest.raises(_vz_move.Unsettled, match="on node02 stopped"):
        pair.move(mode="live")


def test_one_that_fails_stays_as_it_was(pair: Pair) -> None:
    pair.up()
    pair.source.fault("migrate 6 1")
    with pytest.raises(_vz_move.NotMoved, match="stays here"):
        pair.move()
    assert pair.states() == ("running", "absent")
    seen = pair.driver().observe_all().guests[UUID]
    assert seen.autostart and seen.mark is not None and seen.mark.epoch == 1
    assert pair.driver().tombstones.get(UUID) is None


def test_refusals_change_nothing(pair: Pair) -> None:
    pair.up()

    def refused(named: str, **changes: t.Any) -> None:
        with pytest.raises(_vz_move.Refused, match=named):
            pair.move(**changes)
        assert pair.states()[0] == "running" and pair.driver().tombstones.get(UUID) is None

    refused("live_move is missing", mode="live")
    refused("live_move is missing", mode="auto")
    refused("goes to openvz and lxc only", hypervisor="kvm")
    refused("not newer than 1", spec=GuestSpec.from_plain(spec()))
    pair.deaf = True
    refused("does not answer over ssh")
    pair.deaf = False
    pair.target.good("vzctl", "create", CTID, "--ostemplate", "tiny-1.0-x86_64")
    refused("has a container of its number")


def test_a_paused_one_is_refused(pair: Pair) -> None:
    pair.up(state="paused")
    with pytest.raises(_vz_move.Refused, match="resume it"):
        pair.move()


def test_one_with_a_dump_is_refused(pair: Pair) -> None:
    pair.up()
    pair.source.good("vzctl", "suspend", CTID)
    with pytest.raises(_vz_move.Refused, match="its memory lies in a dump"):
        pair.move()
    assert pair.states() == ("saved", "absent") and pair.driver().tombstones.get(UUID) is None


def test_an_interrupted_move_is_not_begun_again(pair: Pair) -> None:
    pair.up()
    pair.driver().tombstones.write(Tombstone(UUID, 2, MOVING, "wn001", "node02", "m0"))
    with pytest.raises(_vz_move.Refused, match="interrupted"):
        pair.move()


def test_a_target_that_falls_silent_leaves_it_unsettled(pair: Pair) -> None:
    pair.up()
    tell = pair.far.state

    def state(ctid: str) -> str:
        pair.far.state = silent
        return tell(ctid)

    def silent(ctid: str) -> str:
        raise _vz_move.Unsettled("node02 does not answer")

    pair.far.state = state
    with pytest.raises(_vz_move.Unsettled):
        pair.move()
    stone = pair.driver().tombstones.get(UUID)
    assert stone is not None and stone.state == MOVING, "nothing is started here before somebody looked"


def act(pair: Pair, name: str, *, check: bool = False, epoch: int = 1, move: str | None = "m1") -> list[str]:
    return _vz_move.settle(pair.driver(), Action(name, UUID, "wn001", epoch, "demo", move), check)


def test_settling(pair: Pair) -> None:
    assert act(pair, "write_tombstone", check=True) == ["tombstone moved, epoch 1"]
    assert pair.driver().tombstones.get(UUID) is None
    assert act(pair, "write_tombstone") and not act(pair, "write_tombstone")
    assert act(pair, "accept") == act(pair, "remove_leftovers") == []
    with pytest.raises(DriverError, match=f"container {CTID} is not here; somebody has moved it meanwhile"):
        act(pair, "drop_tombstone")
    assert act(pair, "forget", check=True) == act(pair, "forget") == ["forget the guest, epoch 1"]
    assert not act(pair, "forget") and pair.driver().tombstones.get(UUID) is None
    assert act(pair, "undefine") == []
    pair.up()
    with pytest.raises(DriverError, match=f"container {CTID} is a copy of it.*`vzctl destroy {CTID}`"):
        act(pair, "undefine")
    with pytest.raises(DriverError, match=f"container {CTID} runs here.*`vzctl stop {CTID}`"):
        act(pair, "write_tombstone")


def test_a_stopped_copy_that_a_move_left_behind_is_called_gone_and_kept_off(pair: Pair) -> None:
    pair.up(epoch=2)
    pair.source.good("vzctl", "stop", CTID)
    with pytest.raises(DriverError, match=f"container {CTID} is here with epoch 2, and what left had epoch 1"):
        act(pair, "write_tombstone")
    done = [f"container {CTID} does not start with its HostOS", "tombstone moved, epoch 2"]
    assert act(pair, "write_tombstone", epoch=2, check=True) == done
    seen, stone = pair.driver().observe_one(UUID), pair.driver().tombstones.get(UUID)
    assert seen is not None and seen.autostart and stone is None
    assert act(pair, "write_tombstone", epoch=2) == done and act(pair, "write_tombstone", epoch=2) == []
    seen, stone = pair.driver().observe_one(UUID), pair.driver().tombstones.get(UUID)
    assert seen is not None and not seen.autostart
    assert stone is not None and (stone.state, stone.epoch, stone.move) == (MOVED, 2, "m1")


def test_the_tombstone_of_a_move_keeps_its_words_and_a_foreign_container_is_no_copy(pair: Pair) -> None:
    pair.driver().tombstones.write(Tombstone(UUID, 1, MOVING, "wn001", "node02", "m0"))
    assert act(pair, "write_tombstone")
    assert pair.driver().tombstones.get(UUID) == Tombstone(UUID, 1, MOVED, "wn001", "node02", "m0")
    pair.source.good("vzctl", "create", CTID, "--ostemplate", "tiny-1.0-x86_64")
    with pytest.raises(DriverError, match=f"container {CTID} is here with none of our marks"):
        act(pair, "write_tombstone")


def test_a_move_that_settle_aborted_is_not_made_by_a_late_module(pair: Pair) -> None:
    pair.up()
    before = sorted(pair.tmp_path.rglob("state-source/departures/*"))
    assert act(pair, "drop_tombstone", check=True) == ["forget the move, epoch 1"]
    assert sorted(pair.tmp_path.rglob("state-source/departures/*")) == before
    assert act(pair, "drop_tombstone") == ["forget the move, epoch 1"] and not act(pair, "drop_tombstone")
    with pytest.raises(_vz_move.Refused, match="aborted by oscarv.virt.settle meanwhile"):
        pair.move()
    assert pair.states() == ("running", "absent") and pair.driver().tombstones.get(UUID) is None
    with pytest.raises(DriverError, match=f"a copy of it is here, container {CTID}"):
        act(pair, "forget")
    assert pair.move(move="m2").moved


def test_an_aborted_move_of_which_only_the_tombstone_is_left_stays_aborted(pair: Pair) -> None:
    pair.driver().tombstones.write(Tombstone(UUID, 1, MOVING, "wn001", "node02", "m1"))
    assert act(pair, "drop_tombstone") and not act(pair, "drop_tombstone")
    assert pair.driver().tombstones.get(UUID) is not None, "nobody knows where it is: only a newer epoch comes up here"
    pair.up(epoch=2)
    assert act(pair, "drop_tombstone", epoch=2, move=None) and pair.driver().tombstones.get(UUID) is None


# -- what still works on a move ----------------------------------------------------------------------------------------


def process(node: Node, number: int, *words: str, status: str = "Name: x\nenvID:\t0\n") -> pathlib.Path:
    directory = node.root / f"proc/{number}"
    directory.mkdir()
    (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (directory / "status").write_text(status)
    return directory


def test_what_a_killed_module_left_running_is_seen_and_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils._report import seen_plain

    def jobs() -> list[str]:
        found = seen_plain(pair.driver().observe_all().guests[UUID])["jobs"]
        one = pair.driver().observe_one(UUID)
        assert one is not None and found == ([one.native.job] if one.native.job else [])
        return t.cast("list[str]", found)

    pair.up()
    source, root = pair.source, str(pair.source.root / f"vz/root/{CTID}")
    (source.root / "proc/7").mkdir()  # it ended meanwhile
    process(source, 8)
    process(source, 9, "/bin/sh", "/usr/sbin/vzmigrate", "-r", "yes", "10.0.0.2", "101")
    process(source, 10, "vzmigrate", "-r", "yes", "10.0.0.2", CTID, status="Name: x\nenvID:\t101\n")
    process(source, 11, "tar", "-C", "/elsewhere", "-cf", "-", ".")
    process(source, 12, "grep", CTID, "vzmigrate")
    assert jobs() == []
    for words, job in (
        (["/bin/bash", "/usr/sbin/vzmigrate", "-r", "yes", "10.0.0.2", CTID], "vzmigrate"),
        (["vzmigrate", "-r", "yes", "10.0.0.2", CTID], "vzmigrate"),
        (["pmigrate.c2c", CTID, f"10.0.0.2/{CTID}"], "vzmigrate"),  # vzctl 7
        (["tar", "--numeric-owner", "-C", root, "-cf", "-", "."], "copy"),
        (["ssh", "-o", "BatchMode=yes", "root@10.0.0.2", f"bash -c x receive /a '{{uuid: {UUID}}}'"], "copy"),
    ):
        directory = process(source, 13, *words)
        assert jobs() == [job]
        result = run(pair, monkeypatch)
        assert result["outcome"] == "unknown" and f"{job} still works on container {CTID}" in result["msg"]
        with pytest.raises(DriverError, match=f"{job} still works on container {CTID}: wait"):
            act(pair, "drop_tombstone")
        directory.rename(source.root / "gone")
        for path in (source.root / "gone").iterdir():
            path.unlink()
        (source.root / "gone").rmdir()
    assert pair.states() == ("running", "absent") and pair.driver().tombstones.get(UUID) is None


def test_a_copy_that_outlives_a_failed_move_leaves_it_unsettled(pair: Pair) -> None:
    pair.up()
    pair.source.fault("migrate 6 1")
    execute = pair.source.execute

    def lives_on(argv: t.Sequence[str], timeout: float) -> t.Any:
        if argv[0] == "vzmigrate":
            process(pair.source, 13, *argv)
        return execute(argv, timeout)

    pair.source.execute = lives_on
    with pytest.raises(_vz_move.Unsettled, match=f"vzmigrate still works on container {CTID}"):
        pair.move()
    assert pair.states() == ("stopped", "absent"), "it is not started under the hands of who copies it"


# -- what is said of a move that failed --------------------------------------------------------------------------------


def run(pair: Pair, monkeypatch: pytest.MonkeyPatch, *, check: bool = False, **changes: t.Any) -> dict[str, t.Any]:
    """The result of one move, as the module gives it."""
    from ansible_collections.oscarv.virt.plugins.module_utils import _hypervisor

    monkeypatch.setattr(_hypervisor, "open_driver", lambda _params: pair.driver())
    monkeypatch.setattr(_vz_move, "Far", lambda _host, _address: pair.far)
    params = {"state_dir": str(pair.tmp_path / "state-source"), "lock_timeout": 5.0, "source": "node01"}
    request = MoveRequest(GuestSpec.from_plain(spec(epoch=2)), "node02", "10.0.0.2", "cold", move="m1")
    (result,) = _vz_move.run(params, [dataclasses.replace(request, **changes)], [], check=check)["moves"]
    return t.cast("dict[str, t.Any]", result)


def breaks(pair: Pair, monkeypatch: pytest.MonkeyPatch, verb: str, after: str) -> None:
    """Here `verb` fails once `after` was run here."""
    execute = pair.source.execute
    seen: list[str] = []

    def told(argv: t.Sequence[str], timeout: float) -> t.Any:
        if after in seen and verb in argv:
            return Output(41, "", f"{verb} was ordered to fail")
        seen.extend(argv)
        return execute(argv, timeout)

    monkeypatch.setattr(pair.source, "execute", told)


def test_an_error_before_anything_was_begun_leaves_it_here_for_certain(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.up()
    breaks(pair, monkeypatch, "-a", after="--version")
    result = run(pair, monkeypatch)
    assert (result["outcome"], result["refused"]) == ("aborted", []) and "nothing was begun" in result["msg"]
    assert pair.driver().tombstones.get(UUID) is None


def test_an_error_after_vzmigrate_is_not_called_aborted(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.up()
    breaks(pair, monkeypatch, "status", after="vzmigrate")
    result = run(pair, monkeypatch)
    assert (result["outcome"], result["failed"]) == ("unknown", True), result["msg"]
    assert "whether it is on node02 is not certain" in result["msg"] and "oscarv.virt.settle" in result["msg"]


def test_a_tombstone_that_cannot_be_written_undoes_no_move(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import Tombstones

    pair.up()
    write = Tombstones.write

    def full(self: Tombstones, stone: Tombstone) -> None:
        if stone.state == MOVED:
            raise OSError("no space left")
        write(self, stone)

    monkeypatch.setattr(Tombstones, "write", full)
    result = run(pair, monkeypatch)
    assert (result["outcome"], result["state"]) == ("committed", "running") and "no space left" in result["msg"]
    assert pair.states() == ("absent", "running")


@pytest.mark.parametrize("verb", ["status", "--onboot"])
def test_a_failure_while_taking_back_hides_no_error(pair: Pair, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    pair.up()
    pair.source.fault("migrate 6 1")
    breaks(pair, monkeypatch, verb, after="vzmigrate")
    result = run(pair, monkeypatch)
    assert result["outcome"] == "unknown" and "vzmigrate" in result["msg"] and f"{verb} was ordered" in result["msg"]
    stone = pair.driver().tombstones.get(UUID)
    assert stone is not None and stone.state == MOVING


def test_one_that_is_not_here_may_have_moved_already(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.up()
    assert run(pair, monkeypatch)["outcome"] == "committed"
    assert run(pair, monkeypatch)["outcome"] == "unknown"
    assert run(pair, monkeypatch, check=True)["outcome"] == "unknown"


def test_a_refusal_is_one_in_check_mode_and_out_of_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.up()
    for check in (True, False):
        result = run(pair, monkeypatch, check=check, mode="live")
        assert result["outcome"] == "aborted" and result["refused"]
