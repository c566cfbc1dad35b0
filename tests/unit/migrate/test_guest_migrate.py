# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The batch: one result per move, what each says to the ledger, one failure at the end that names each."""

from __future__ import annotations

import threading
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_batch as batch
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError, MoveRequest, MoveResult
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move import NotMoved
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_plan import Refused
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_proof import Unsettled
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_target import TargetError
from stage import UUID, Stage, error, plain


def wish(number: int = 1, **changes: t.Any) -> dict[str, t.Any]:
    spec = plain(name=f"wn{number}", uuid=UUID[:-1] + str(number))
    base = {"id": f"move-{number}", "spec": spec, "epoch": None, "guest": None, "target": "node02"}
    limits = {"target_address": "10.0.0.2", "mode": "auto", "bandwidth": None, "timeout": None, "plaintext": False}
    limits.update(target_hypervisor=None, target_acceleration=None, coming=[])
    return {**base, **limits, **changes}


class Batch:
    """Runs a batch on a stage; `look` and `act` say what happens to each guest by name."""

    def __init__(self, play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.look: dict[str, Exception | MoveResult] = {}
        self.act: dict[str, Exception | MoveResult] = {}
        self.acted: list[str] = []
        self.locked: list[str] = []
        self.unreachable = False
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._play = play
        play.driver.close = lambda: None  # only the batch closes
        monkeypatch.setattr(batch, "open_driver", lambda _params, **_consents: play.driver)
        monkeypatch.setattr(batch, "Target", self._target)
        monkeypatch.setattr(batch, "already", lambda _scene, request, _target: self._already(request))
        monkeypatch.setattr(batch, "look", lambda _scene, request, _target: self._look(request))
        monkeypatch.setattr(batch, "act", lambda _scene, plan, _target: self._act(plan))

    def _target(self, *_arguments: t.Any, **_options: t.Any) -> t.Any:
        if self.unreachable:
            raise TargetError("target node02 cannot be reached for a move")
        return self._play.target

    def _already(self, request: MoveRequest) -> MoveResult | None:
        found = self.look.get(request.spec.name)
        return found if isinstance(found, MoveResult) else None

    def _look(self, request: MoveRequest) -> t.Any:
        found = self.look.get(request.spec.name)
        if isinstance(found, Exception):
            raise found
        from stage import mark

        class Plan:
            live, warnings, guest = True, ("known",), request.spec.name

        Plan.mark = mark(1)  # what the diff shows
        return Plan

    def _act(self, plan: t.Any) -> MoveResult:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.acted.append(plan.guest)
        threading.Event().wait(0.05)
        with self._lock:
            self._inside -= 1
        found = self.act.get(plan.guest, MoveResult(plan.guest, True, "running", True, 1.5, 200, mode="live"))
        if isinstance(found, Exception):
            raise found
        return found

    def run(self, *wishes: dict[str, t.Any], check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        base = {"moves": list(wishes), "settle": [], "cluster": None, "parallel": 1, "source": "node01"}
        times = {"state_dir": self._play.driver.options.state_dir, "shutdown_timeout": 1.0, "lock_timeout": 0.3}
        return batch.run({**base, **times, **params}, check=check)


@pytest.fixture
def moves(play: Stage, monkeypatch: pytest.MonkeyPatch) -> Batch:
    return Batch(play, monkeypatch)


def test_each_has_its_own_result_and_one_failure_names_each(moves: Batch) -> None:
    moves.look["wn2"] = Refused("wn2", ["bridge br7 is missing on node02", "it has crashed"])
    moves.act["wn3"] = NotMoved("guest wn3: not moved to node02, it stays here (running): given up")
    moves.act["wn4"] = Unsettled("guest wn4: not certain")
    moves.act["wn5"] = error("VIR_ERR_RPC", "broken pipe")
    result = moves.run(*(wish(number) for number in range(1, 6)))
    shown = {
        item["guest"]: (item["outcome"], item["changed"], item["moved"], item["failed"]) for item in result["moves"]
    }
    assert shown == {
        "wn1": ("committed", True, True, False),
        "wn2": ("aborted", False, False, True),
        "wn3": ("aborted", False, False, True),
        "wn4": ("unknown", False, False, True),
        "wn5": ("unknown", False, False, True),
    }
    assert result["failed"] and result["changed"]
    assert result["msg"].startswith("4 of 5 failed: ")
    for name in ("wn2", "wn3", "wn4", "wn5"):
        assert f"guest {name}: " in result["msg"]
    assert result["moves"][1]["refused"] == ["bridge br7 is missing on node02", "it has crashed"]
    assert all(item["message"] == item["msg"] for item in result["moves"]), "what end_move takes"


def test_everything_is_looked_at_before_anything_is_done(moves: Batch) -> None:
    moves.look["wn9"] = Refused("wn9", ["no"])
    order: list[str] = []
    look, act = moves._look, moves._act
    moves._look = lambda request: (order.append("look"), look(request))[1]
    moves._act = lambda plan: (order.append("act"), act(plan))[1]
    moves.run(wish(1), wish(9), wish(2))
    assert order == ["look", "look", "look", "act", "act"]


@pytest.mark.parametrize(("check", "counted"), [(True, ("b" * 64,)), (False, ())])
def test_only_check_mode_counts_on_builds_that_are_to_come(moves: Batch, check: bool, counted: tuple[str, ...]) -> None:
    seen: list[tuple[str, ...]] = []
    look = moves._look
    moves._look = lambda request: (seen.append(request.coming), look(request))[1]
    moves.run(wish(1, coming=["b" * 64]), check=check)
    assert seen == [counted]


def test_check_mode_acts_on_nothing_and_takes_no_lock(moves: Batch, play: Stage) -> None:
    result = moves.run(wish(1), check=True)
    assert moves.acted == [] and result["changed"]
    (item,) = result["moves"]
    assert (item["outcome"], item["mode"], item["msg"]) == (
        "planned",
        "live",
        "guest wn1: would be moved live to node02",
    )
    assert result["warnings"] == ["known"]
    assert not (play.driver.pool.parent / "state").exists()


@pytest.mark.parametrize("there", ["lxc", "openvz"])
def test_a_machine_does_not_become_a_container(moves: Batch, there: str) -> None:
    moves.unreachable = True  # it is not even asked
    (item,) = moves.run(wish(1, target_hypervisor=there))["moves"]
    assert (item["outcome"], item["failed"], moves.acted) == ("aborted", True, [])
    assert f"node02 has {there}" in item["refused"][0]


def test_moved_already_is_no_change(moves: Batch) -> None:
    moves.look["wn1"] = MoveResult("wn1", True, "running", True, 0.0, already=True, message="moved already")
    result = moves.run(wish(1))
    assert not result["changed"] and not result["failed"] and result["diff"] == []
    assert (result["moves"][0]["outcome"], result["moves"][0]["moved"]) == ("committed", True)


def test_trouble_after_the_proof_is_committed_and_failed(moves: Batch) -> None:
    moves.act["wn1"] = MoveResult("wn1", True, "stopped", True, 1.0, message="guest wn1: is on node02 now, but: no")
    result = moves.run(wish(1))
    assert result["failed"] and result["moves"][0]["outcome"] == "committed" and result["moves"][0]["changed"]


def test_a_target_that_does_not_answer_is_asked_once(moves: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    moves.unreachable = True
    target = moves._target
    monkeypatch.setattr(batch, "Target", lambda *a, **o: (asked.append(1), target(*a, **o))[1])
    result = moves.run(wish(1), wish(2))
    assert [item["outcome"] for item in result["moves"]] == ["aborted", "aborted"] and asked == [1]


@pytest.mark.parametrize("parallel", [1, 3])
def test_as_many_at_the_same_time_as_allowed(moves: Batch, parallel: int) -> None:
    moves.run(*(wish(number) for number in range(1, 7)), parallel=parallel)
    assert len(moves.acted) == 6 and moves.most == parallel


def test_whoever_holds_the_lock_goes_first(moves: Batch, play: Stage) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils._lock import Locked, hold

    with hold(play.driver.options.state_dir, "guest"), pytest.raises(Locked, match="being changed by guest"):
        moves.run(wish(1))
    assert moves.acted == []


def test_the_diff_shows_host_and_epoch(moves: Batch) -> None:
    (diff,) = moves.run(wish(1, epoch=7))["diff"]
    assert '"host": "node01"' in diff["before"] and '"epoch": 1' in diff["before"]
    assert '"host": "node02"' in diff["after"] and '"epoch": 7' in diff["after"]


def test_all_that_is_wrong_is_told_before_anything_is_looked_at(moves: Batch) -> None:
    wishes = (
        wish(1, bandwidth=0),
        wish(2, timeout=-1),
        wish(3, guest="wn4"),
        wish(5, spec={"name": "wn5"}),
        wish(1),
    )
    with pytest.raises(DriverError) as failed:
        moves.run(*wishes, parallel=0)
    for words in (
        "parallel: found 0",
        "move move-1: bandwidth: found 0; allowed: 1 or more",
        "move move-2: timeout: found -1",
        "move move-3: it is of guest wn4, its spec of wn3",
        "move move-5: guest wn5: key 'cluster' is missing",
        "guest wn1: is in the list of moves twice",
    ):
        assert words in str(failed.value)
    with pytest.raises(DriverError, match="settle: cluster is needed"):
        moves.run(settle=[{"action": "accept"}])


def test_actions_fail_one_by_one(moves: Batch) -> None:
    todo = {"action": "undefine", "uuid": UUID, "guest": "wn1", "epoch": 1, "move": None}
    result = moves.run(settle=[todo, {**todo, "action": "drop_tombstone"}], cluster="demo")
    assert [(item["action"], item.get("failed", False)) for item in result["settled"]] == [
        ("undefine", True),
        ("drop_tombstone", False),
    ]
    assert result["failed"] and "guest wn1: undefine: it runs here" in result["msg"]
