# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps two QEMUs from writing to one disk in a live move between Xen HostOSes."""

from __future__ import annotations

import os
import pathlib
import subprocess
import types
import typing as t

import libvirt
import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _hostos, _xen_move
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError

MOUNTS = """\
/dev/vda1 / ext4 rw,relatime 0 0
nas:/a /san nfs4 rw,sync,relatime,vers=4.2 0 0
nas:/b /slow\\040san nfs4 rw,relatime,vers=4.2 0 0
"""


def plan(
    kind: str = "xen", *, live: bool = True, state: str = "running", folder: str = "/san", shared: bool = True
) -> t.Any:
    disk = types.SimpleNamespace(name="root", pool="san", directory=folder, path=f"{folder}/root.qcow2", shared=shared)
    return types.SimpleNamespace(
        live=live,
        config=types.SimpleNamespace(domain_type=kind),
        seen=types.SimpleNamespace(state=state),
        disks=(disk,),
        guest="wn1",
    )


@pytest.fixture(autouse=True)
def mounts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    monkeypatch.setattr(_xen_move, "mount_of", lambda found: _hostos.mount_of(found, str(path)))


def test_a_pool_whose_writes_may_be_late_is_refused() -> None:
    assert _xen_move.refusals(plan()) == []
    assert _xen_move.refusals(plan(folder="/somewhere")) == [], "a cluster's file system, or whatever `shared` means"
    (reason,) = _xen_move.refusals(plan(folder="/slow san"))
    assert "pool san at /slow san is NFS without the mount option sync" in reason


@pytest.mark.parametrize("other", [{"live": False}, {"kind": "kvm"}, {"shared": False}])
def test_where_no_two_qemus_meet_nothing_is_refused(other: dict[str, t.Any]) -> None:
    assert _xen_move.refusals(plan(**{"folder": "/slow san", **other})) == []


def test_a_paused_guest_cannot_be_sent() -> None:
    (reason,) = _xen_move.refusals(plan(state="paused"))
    assert "resume it" in reason


def test_who_has_a_file_open_is_found(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "root.qcow2"
    with path.open("wb"):
        assert os.getpid() in _xen_move.holders({str(path)})
    assert os.getpid() not in _xen_move.holders({str(path)})


class Domain:
    def __init__(self, code: int = libvirt.VIR_DOMAIN_PAUSED) -> None:
        self.code, self.resumed = code, 0

    def state(self) -> tuple[int, int]:
        return self.code, 0

    def resume(self) -> None:
        self.resumed += 1


def test_it_goes_on_when_nothing_here_has_its_disks_open(tmp_path: pathlib.Path) -> None:
    domain, moved = Domain(), plan(folder=str(tmp_path))
    with pathlib.Path(moved.disks[0].path).open("wb"), pytest.raises(DriverError, match="still have its disks open"):
        _xen_move.go_on(moved, domain, lambda condition, _seconds: condition())
    assert domain.resumed == 0
    _xen_move.go_on(moved, domain, lambda condition, _seconds: condition())
    assert domain.resumed == 1
    running = Domain(libvirt.VIR_DOMAIN_RUNNING)
    _xen_move.go_on(moved, running, lambda condition, _seconds: condition())
    assert running.resumed == 0, "somebody else was quicker"


LISTED = """\
Name                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label
wn1                          3   256     1     {state}       6.0 83684e99-1258-4059-805e-3493f7400528        {code}
"""


class Xl:
    """`xl list -v NAME`, as Debian 12's prints it, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.said, self.asked = 1000.0, "", 0
        monkeypatch.setattr(_xen_move.subprocess, "run", self._run)
        monkeypatch.setattr(_xen_move.time, "monotonic", lambda: self.now)

    def is_(self, state: str, code: str) -> None:
        self.said = LISTED.format(state=state, code=code)

    def _run(self, words: list[str], **_options: t.Any) -> t.Any:
        assert words == ["xl", "list", "-v", "wn1"]
        self.asked += 1
        return types.SimpleNamespace(stdout=self.said)


@pytest.fixture
def xl(monkeypatch: pytest.MonkeyPatch) -> Xl:
    return Xl(monkeypatch)


def passes(xl: Xl, vain: _xen_move.Vain, seconds: int) -> str | None:
    said = None
    for _second in range(seconds):
        xl.now += 1
        said = vain()
        if said is not None:
            break
    return said


@pytest.mark.parametrize(("state", "code"), [("-b----", "-"), ("---s--", "2"), ("------", "-")])
def test_a_guest_that_is_on_its_way_is_waited_for(xl: Xl, state: str, code: str) -> None:
    xl.is_(state, code)
    assert passes(xl, _xen_move.Vain("wn1"), 3600) is None
    assert 0 < xl.asked <= 3600 / _xen_move.LOOK


@pytest.mark.parametrize(("code", "word"), [("0", "powered off"), ("1", "rebooted"), ("3", "crashed")])
def test_a_guest_that_ended_on_its_way_is_told_of_when_libvirt_had_its_time(xl: Xl, code: str, word: str) -> None:
    vain = _xen_move.Vain("wn1")
    xl.is_("---sr-", code)
    assert passes(xl, vain, int(_xen_move.VAIN)) is None
    said = passes(xl, vain, 60)
    assert said is not None and said.startswith(f"guest wn1: it {word} while it was moved")
    assert "restart libvirtd on this HostOS" in said


def test_a_guest_that_was_started_again_begins_anew(xl: Xl) -> None:
    vain = _xen_move.Vain("wn1")
    xl.is_("---sr-", "1")
    passes(xl, vain, 60)
    xl.is_("-b----", "-")
    passes(xl, vain, 60)
    xl.is_("---sr-", "1")
    assert passes(xl, vain, int(_xen_move.VAIN)) is None


@pytest.mark.parametrize("error", [FileNotFoundError("xl"), subprocess.TimeoutExpired("xl", 60)])
def test_an_xl_that_does_not_answer_is_no_reason(xl: Xl, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        xl.asked += 1
        raise error

    monkeypatch.setattr(_xen_move.subprocess, "run", fails)
    assert passes(xl, _xen_move.Vain("wn1"), 600) is None and xl.asked


def test_a_guest_that_is_gone_is_no_reason(xl: Xl) -> None:
    assert passes(xl, _xen_move.Vain("wn1"), 600) is None, "xl lists nothing, and says so on its standard error"
