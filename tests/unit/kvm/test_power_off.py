# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest is asked to shut down again and again; what a hypervisor says of one that is going already is no failure."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_power as power
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError


class Guest:
    """Ends after so many looks; each request to shut down is answered by the next of `answers`, None is yes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int, *answers: str | None) -> None:
        self.looks, self.answers, self.asked = looks, list(answers), 0
        dialect = types.SimpleNamespace(has_ended=self._has_ended)
        world = types.SimpleNamespace(platform=types.SimpleNamespace(dialect=dialect))
        self.plan = t.cast(t.Any, types.SimpleNamespace(spec=types.SimpleNamespace(name="wn1"), world=world))
        monkeypatch.setattr(power, "_LOOK", 0.01)
        monkeypatch.setattr(power, "_ASK_AGAIN", 0.0)
        monkeypatch.setattr(power, "ask", self._ask)

    def _has_ended(self, _domain: t.Any) -> bool:
        self.looks -= 1
        return self.looks < 0

    def _ask(self, _plan: t.Any) -> None:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise DriverError(f"guest wn1: cannot ask it to shut down: {answer}")

    def stopped(self, seconds: float = 5.0) -> bool:
        return power._stopped_in_time(self.plan, object(), seconds)


def test_one_that_is_being_buried_cannot_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(monkeypatch, 3, None, "Failed to shutdown domain '8' with libxenlight", "the same")
    assert guest.stopped() and guest.asked == 3


def test_one_that_cannot_be_asked_at_all_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(monkeypatch, 99, "no button")
    with pytest.raises(DriverError, match="no button"):
        guest.stopped()
    assert guest.asked == 1


def test_one_that_never_ends_is_given_up_whatever_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(monkeypatch, 10**9, None, *["no button"] * 10**5)
    assert not guest.stopped(0.1) and guest.asked > 1
