# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken back, what is not, and what is said, when a move fails at each of its steps."""

from __future__ import annotations

import os
import typing as t

import libvirt
import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move as moves
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_proof as proof
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_job import Stuck
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_plan import MovePlan, Refused
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, MOVING, Tombstone
from stage import UUID, Domain, Stage, error


@pytest.fixture(autouse=True)
def quick(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, no second connection, files that arrive at once."""
    monkeypatch.setattr(proof, "PATIENCE", 0.0)
    monkeypatch.setattr(proof, "DYING", 0.0)
    monkeypatch.setattr(proof, "wait_until", lambda condition, *_more: condition())
    monkeypatch.setattr(proof, "_anew", lambda target, ask: ask(target))

    def prepare(_scene: t.Any, plan: MovePlan, *_more: t.Any) -> dict[str, int]:
        play.folder.update({os.path.basename(path): (10, 10) for path in plan.arriving})
        play.folder[plan.receipt] = (1, 1)
        return {}

    monkeypatch.setattr(moves, "_prepare", prepare)


def arrive(play: Stage, epoch: int = 2) -> None:
    """What libvirt does: there, and not here any more."""
    play.target.there, play.driver.domain = Domain(epoch=epoch), None


def act(play: Stage, monkeypatch: pytest.MonkeyPatch, migrate: t.Callable[[], None], **changes: t.Any) -> t.Any:
    monkeypatch.setattr(moves, "migrate", lambda *_arguments: migrate())
    scene = moves.Scene(t.cast(t.Any, play.driver), "node01")
    plan = moves.look(scene, play.request(**changes), t.cast(t.Any, play.target))
    return moves.act(scene, plan, t.cast(t.Any, play.target))


def files(play: Stage) -> list[str]:
    return sorted(os.listdir(play.driver.pool / "demo"))


ALL = ["wn1-data.qcow2", "wn1-root.qcow2", "wn1-seed.iso"]


def test_a_live_move(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[t.Any] = []

    def migrate() -> None:
        during.append(play.driver.tombstones.get(UUID))
        arrive(play)

    result = act(play, monkeypatch, migrate)
    assert (result.moved, result.mode, result.state, result.downtime_ms) == (True, "live", "running", 7)
    assert result.message == "" and result.pending == ()
    assert during == [Tombstone(UUID, 1, MOVING, "wn1", "node02", "move-1")], "before anything acts"
    assert play.driver.tombstones.get(UUID) == Tombstone(UUID, 1, MOVED, "wn1", "node02", "move-1")
    assert files(play) == [] and len(result.removed) == 3
    assert sorted(play.folder) == ALL, "the receipt is gone"
    assert t.cast(Domain, play.target.there).autostarts == [True]


def test_a_xen_guest_arrives_paused_and_goes_on_once_it_is_proved(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Domain(libvirt.VIR_DOMAIN_PAUSED, epoch=2)
    asked: list[t.Any] = []

    def go_on(plan: MovePlan, domain: Domain, _wait: t.Any) -> None:
        asked.append((plan.guest, play.driver.tombstones.get(UUID)))
        domain.resume()

    def migrate() -> None:
        play.target.there, play.driver.domain = there, None

    monkeypatch.setattr(moves, "arrives_paused", lambda plan: plan.live)
    monkeypatch.setattr(moves, "go_on", go_on)
    assert act(play, monkeypatch, migrate).state == "running"
    assert asked == [("wn1", Tombstone(UUID, 1, MOVED, "wn1", "node02", "move-1"))]


def test_a_cold_move_keeps_the_originals_until_the_copies_are_durable(
    play: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    play.driver.domain = stopped = Domain(libvirt.VIR_DOMAIN_SHUTOFF)
    play.driver.changes = {"autostart": True}
    seen: list[list[bool]] = []

    def migrate() -> None:
        seen.append(list(stopped.autostarts))
        arrive(play)
        t.cast(Domain, play.target.there).code = libvirt.VIR_DOMAIN_SHUTOFF

    result = act(play, monkeypatch, migrate)
    assert seen == [[False]], "a reboot in between starts it nowhere"
    assert (result.mode, result.state, result.removed) == ("cold", "stopped", ())
    assert [(todo["host"], todo["action"], todo["epoch"]) for todo in result.pending] == [
        ("node02", "accept", 2),
        ("node01", "remove_leftovers", 1),
    ]
    assert files(play) == ALL and "wn1.incoming.json" in play.folder
    again = moves.already(moves.Scene(t.cast(t.Any, play.driver), "node01"), play.request(), t.cast(t.Any, play.target))
    assert again is not None and again.already
    assert [todo["action"] for todo in again.pending] == ["write_tombstone", "accept", "remove_leftovers"]


@pytest.mark.parametrize("older", [None, Tombstone(UUID, 0, MOVED, "wn1", "node03", "move-0")])
def test_a_failure_is_taken_back(play: Stage, monkeypatch: pytest.MonkeyPatch, older: Tombstone | None) -> None:
    if older:
        play.driver.tombstones.write(older)

    def migrate() -> None:
        raise error("VIR_ERR_OPERATION_FAILED", "unable to connect to server")

    with pytest.raises(moves.NotMoved, match=r"not moved to node02, it stays here \(running\): unable to connect"):
        act(play, monkeypatch, migrate)
    assert files(play) == ALL and play.folder == {}
    assert play.driver.tombstones.get(UUID) == older
    assert moves.Scene(t.cast(t.Any, play.driver)).departures.get(UUID) is None


def test_a_guest_that_libvirt_left_paused_goes_on(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = t.cast(Domain, play.driver.domain)

    def migrate() -> None:
        domain.code = libvirt.VIR_DOMAIN_PAUSED
        raise error("VIR_ERR_OPERATION_FAILED", "lost connection")

    with pytest.raises(moves.NotMoved):
        act(play, monkeypatch, migrate)
    assert domain.calls == ["resume"]


def test_a_cold_move_that_fails_gives_autostart_back_and_starts_again(
    play: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = t.cast(Domain, play.driver.domain)
    play.driver.changes = {"autostart": True, "state": "running"}
    monkeypatch.setattr(moves, "shut_down", lambda *_arguments: setattr(domain, "code", libvirt.VIR_DOMAIN_SHUTOFF))

    def migrate() -> None:
        raise error("VIR_ERR_OPERATION_FAILED", "no")

    with pytest.raises(moves.NotMoved):
        act(play, monkeypatch, migrate, mode="cold")
    assert domain.autostarts == [False, True] and domain.calls == ["create"]


def test_a_guest_that_does_not_shut_down_goes_on(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: t.Any) -> None:
        raise DriverError("guest wn1: it did not shut down within 1 s")

    monkeypatch.setattr(moves, "shut_down", refuse)
    with pytest.raises(moves.NotMoved, match="it did not shut down within 1 s") as failed:
        act(play, monkeypatch, lambda: None, mode="cold")
    assert str(failed.value).count("guest wn1") == 1
    assert t.cast(Domain, play.driver.domain).calls == []


def test_an_error_after_the_guest_arrived_is_no_failure(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate() -> None:
        arrive(play)
        raise error("VIR_ERR_RPC", "connection reset")

    assert act(play, monkeypatch, migrate).moved


def test_where_libvirt_waits_in_vain_nothing_is_taken_back(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate() -> None:
        raise Stuck("guest wn1: it rebooted while it was moved: restart libvirtd on this HostOS")

    with pytest.raises(
        proof.Unsettled, match=r"^guest wn1: .*restart libvirtd on this HostOS; then run oscarv.virt.settle$"
    ):
        act(play, monkeypatch, migrate)
    assert files(play) == ALL and "wn1.incoming.json" in play.folder
    stone = play.driver.tombstones.get(UUID)
    assert stone is not None and stone.state == MOVING


def test_where_it_is_not_certain_nothing_is_taken_back(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate() -> None:
        play.target.there = Domain(epoch=2)
        raise error("VIR_ERR_RPC", "connection reset")

    with pytest.raises(proof.Unsettled, match=r"not certain what is where .*this HostOS has it, node02 has it.*settle"):
        act(play, monkeypatch, migrate)
    assert files(play) == ALL and "wn1.incoming.json" in play.folder
    stone = play.driver.tombstones.get(UUID)
    assert stone is not None and stone.state == MOVING


def test_a_target_that_keeps_our_files_is_left_to_settle(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate() -> None:
        def broken(_path: str) -> t.NoReturn:
            raise error("VIR_ERR_RPC", "gone")

        monkeypatch.setattr(play.target, "folder", broken)
        raise error("VIR_ERR_OPERATION_FAILED", "no")

    with pytest.raises(proof.Unsettled, match="it goes on here, but files stay on node02"):
        act(play, monkeypatch, migrate)
    assert play.driver.tombstones.get(UUID) is not None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epoch": 1}, "its mark has epoch"),
        ({"persistent": False}, "it is transient"),
        ({"code": libvirt.VIR_DOMAIN_SHUTOFF}, "it does not run"),
    ],
)
def test_what_is_not_proved_is_not_believed(
    play: Stage, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, t.Any], words: str
) -> None:
    def migrate() -> None:
        arrive(play)
        for name, value in wrong.items():
            setattr(play.target.there, name, value)

    with pytest.raises(proof.Unsettled, match=words):
        act(play, monkeypatch, migrate)
    assert files(play) == ALL, "nothing is removed without the proof"


def test_a_qemu_that_stays_behind_is_no_proof(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    play.driver.processes = [4711]
    with pytest.raises(proof.Unsettled, match=r"it still runs here \(\[4711\]\)"):
        act(play, monkeypatch, lambda: arrive(play))
    assert files(play) == ALL


def test_what_goes_wrong_after_the_proof_does_not_undo_the_move(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_paths: t.Any, _used: t.Any) -> list[str]:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(moves, "remove_files", broken)
    result = act(play, monkeypatch, lambda: arrive(play))
    assert result.moved and "is on node02 now, but: [Errno 30] Read-only file system" in result.message
    assert moves.Scene(t.cast(t.Any, play.driver)).departures.get(UUID) is not None, "for remove_leftovers"


def test_a_move_that_settle_aborted_is_not_made_late(play: Stage) -> None:
    scene = moves.Scene(t.cast(t.Any, play.driver), "node01")
    scene.departures.abort(UUID, "move-1")
    with pytest.raises(Refused, match="this move was aborted by oscarv.virt.settle meanwhile"):
        moves.look(scene, play.request(), t.cast(t.Any, play.target))
    assert moves.look(scene, play.request(move="move-2"), t.cast(t.Any, play.target)).live
