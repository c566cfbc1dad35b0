# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps two QEMUs from writing to one disk in a live move between Xen HostOSes."""

from __future__ import annotations

import os
import pathlib
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
