# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests whose memory is saved, on libvirt's simulator."""

from __future__ import annotations

import typing as t

import libvirt
import pytest
from test_reconcile import Simulator, guest, simulator

__all__ = ["simulator"]  # the fixture

MIB = 2**20


def saved_image(simulator: Simulator) -> bool:
    return bool(simulator.connection.lookupByName("wn001").hasManagedSaveImage())


def change(simulator: Simulator, state: str, **options: t.Any) -> dict[str, t.Any]:
    """Check, run, run again; all agree."""
    specs = [guest(1, state=state)]
    checked = simulator.plain(specs, check=True, **options)["guests"]["wn001"]
    done = t.cast("dict[str, t.Any]", simulator.plain(specs, **options)["guests"]["wn001"])
    for key in ("changed", "steps", "state"):
        assert checked[key] == done[key]
    assert (done["changed"], done["failed"]) == (True, False)
    again = simulator.plain(specs, **options)["guests"]["wn001"]
    assert (again["changed"], again["steps"], again["state"]) == (False, [], state)
    return done


@pytest.mark.parametrize("before", ["running", "paused"])
def test_memory_is_saved_and_the_guest_does_not_come_up_with_its_hostos(simulator: Simulator, before: str) -> None:
    simulator.plain([guest(1, state=before)])
    done = change(simulator, "saved")
    assert done["steps"] == (["switch autostart off"] if before == "running" else []) + ["save"]
    assert saved_image(simulator)
    assert simulator.names() == {"wn001": False}
    assert simulator.connection.lookupByName("wn001").autostart() == 0


@pytest.mark.parametrize(
    ("after", "steps"),
    [
        ("running", ["switch autostart on", "restore"]),
        ("paused", ["restore", "pause"]),
        ("stopped", ["restore", "shut down"]),
    ],
)
def test_a_saved_guest_goes_on(simulator: Simulator, after: str, steps: list[str]) -> None:
    simulator.plain([guest(1)])
    change(simulator, "saved")
    assert change(simulator, after)["steps"] == steps
    assert not saved_image(simulator)


def test_saved_memory_is_dropped_only_by_who_would_pull_the_plug(simulator: Simulator) -> None:
    simulator.plain([guest(1)])
    change(simulator, "saved")
    done = change(simulator, "stopped", force_stop=True, shutdown_timeout=0)
    assert done["steps"] == ["drop its saved memory"]
    assert not saved_image(simulator)


def test_who_has_no_opinion_on_power_leaves_memory_saved(simulator: Simulator) -> None:
    simulator.plain([guest(1, autostart=False)])
    simulator.connection.lookupByName("wn001").managedSave(0)
    done = simulator.plain([guest(1, state="present", autostart=False)])["guests"]["wn001"]
    assert (done["state"], done["changed"]) == ("saved", False)
    assert saved_image(simulator)


@pytest.mark.parametrize("state", ["saved", "running", "stopped", "present"])
@pytest.mark.parametrize("wish", [{"memory": 256 * MIB}, {"vcpus": 4}, {"partition": "others"}, {"nics": []}])
def test_nothing_changes_under_saved_memory(simulator: Simulator, state: str, wish: dict[str, t.Any]) -> None:
    simulator.plain([guest(1)])
    change(simulator, "saved")
    domain = simulator.connection.lookupByName("wn001")
    before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    for check in (True, False):
        refused = simulator.plain([guest(1, state=state, **wish)], check=check)["guests"]["wn001"]
        assert (refused["failed"], refused["changed"]) == (True, False)
        assert "guest wn001: its memory is saved, and " in refused["msg"]
        assert "start it as it was (state: running)" in refused["msg"]
    assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
    assert saved_image(simulator)


@pytest.mark.parametrize(("before", "words"), [(None, "it is not there"), ("stopped", "it is stopped")])
def test_where_no_memory_is_none_is_saved(simulator: Simulator, before: str | None, words: str) -> None:
    if before:
        simulator.plain([guest(1, state=before)])
    names = simulator.names()
    refused = simulator.plain([guest(1, state="saved")])["guests"]["wn001"]
    assert f"state: found 'saved'; {words}: there is no running memory to save" in refused["msg"]
    assert simulator.names() == names


def test_live_changes_are_made_before_memory_is_saved(simulator: Simulator) -> None:
    simulator.plain([guest(1, memory=256 * MIB)])
    done = simulator.plain([guest(1, memory=128 * MIB, state="saved")])["guests"]["wn001"]
    assert done["steps"] == ["balloon: 256 -> 128 MiB", "define", "switch autostart off", "save"]


def test_a_restart_is_not_made_of_a_save(simulator: Simulator) -> None:
    """What waits for a restart waits on; the memory would be lost."""
    simulator.plain([guest(1, memory=128 * MIB)])
    wish = guest(1, memory=256 * MIB, state="saved")
    done = simulator.plain([wish], allow_restart=True)["guests"]["wn001"]
    assert done["steps"] == ["define", "switch autostart off", "save"]
    assert not simulator.plain([wish], allow_restart=True)["guests"]["wn001"]["changed"]
    back = simulator.plain([guest(1, memory=256 * MIB)])["guests"]["wn001"]
    assert back["steps"] == ["switch autostart on", "restore"]


def test_absent_takes_saved_memory_along(simulator: Simulator) -> None:
    simulator.plain([guest(1)])
    change(simulator, "saved")
    assert simulator.plain([guest(1, state="absent")])["guests"]["wn001"]["steps"] == ["undefine"]
    assert simulator.names() == {}
