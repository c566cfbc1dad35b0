# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `hostos_network`: a change counts when the machine was reached again, and not before."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.oscarv.virt.plugins.action import hostos_network

Answer = t.Union[dict[str, t.Any], Exception]


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(hostos_network, "time", fake)
    return fake


def act(
    answers: list[Answer], monkeypatch: pytest.MonkeyPatch, **arguments: t.Any
) -> tuple[dict[str, t.Any], list[str]]:
    """What the action says, and what it did, in order, while the HostOS answers like this (the last one for ever)."""
    did: list[str] = []

    def execute(module_name: str, module_args: dict[str, t.Any], task_vars: t.Any) -> dict[str, t.Any]:
        did.append(module_args["step"])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    action = hostos_network.ActionModule.__new__(hostos_network.ActionModule)
    action._task = types.SimpleNamespace(args=arguments)
    action._connection = types.SimpleNamespace(reset=lambda: did.append("reset"))
    monkeypatch.setattr(action, "_execute_module", execute)
    monkeypatch.setattr(hostos_network.ActionBase, "run", lambda *_arguments: {})
    return action.run(task_vars={}), did


CHANGED = {"changed": True, "pending": True, "devices": ["br0"]}
KEPT = {"changed": True}
LOST = AnsibleConnectionFailure("no route to host")


def test_nothing_to_do_is_one_call(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert act([{"changed": False, "devices": []}], monkeypatch) == ({"changed": False, "devices": []}, ["apply"])


def test_every_try_is_a_new_connection(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    result, did = act([CHANGED, {"changed": True, "retry": True}, LOST, KEPT], monkeypatch)
    assert result == {"changed": True, "devices": ["br0"]}
    assert did == ["apply", *["reset", "confirm"] * 3]


def test_what_the_machine_took_back_is_a_failure(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    result, _did = act([CHANGED, LOST, {"failed": True, "msg": "went back to the old one"}], monkeypatch)
    assert result["failed"]
    assert result["msg"] == "went back to the old one"


def test_it_waits_longer_than_the_way_back_takes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleConnectionFailure):
        act([CHANGED, LOST], monkeypatch, rollback_timeout=30)
    assert 30 + hostos_network.GRACE <= clock.now < 30 + hostos_network.GRACE + 5


def test_a_change_that_is_never_made_is_no_success(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    result, _did = act([CHANGED, {"changed": True, "retry": True}], monkeypatch)
    assert result["failed"]
