# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs of a container, by the machine's own word; and what is done where libvirt has lost sight of it."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _dialect, _lxc_process
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from lxc_plain import UUID

LISTING = """\
Num       RefCount Protocol Flags    Type St Inode Path
00000000118f88f5: 00000002 00000000 00010000 0001 01 6759725 /run/libvirt/lxc/ct1.sock
{}
"""
CONNECTED = "00000000368f338a: 00000003 00000000 00000000 0001 03 6759802 /run/libvirt/lxc/ct1.sock"


def process(proc: pathlib.Path, pid: int, *, inner: int, comm: str = "systemd", uuid: str = UUID) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "environ").write_bytes(b"PATH=/bin\0LIBVIRT_LXC_UUID=" + uuid.encode() + b"\0")
    (folder / "status").write_text(f"Name:\t{comm}\nNSpid:\t{pid}\t{inner}\n")
    (folder / "comm").write_text(f"{comm}\n")


def test_processes_by_container(tmp_path: pathlib.Path) -> None:
    process(tmp_path, 20, inner=1)
    process(tmp_path, 7, inner=5)
    process(tmp_path, 30, inner=1, uuid="other")
    (tmp_path / "99").mkdir()  # without an environment: it has ended
    assert _lxc_process.processes_of(UUID, str(tmp_path)) == [7, 20]
    assert set(_lxc_process.processes(str(tmp_path))) == {UUID, "other"}


def test_systemd_is_asked_to_power_off(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    process(tmp_path, 7, inner=5)
    assert not _lxc_process.power_off_systemd(UUID, str(tmp_path)) and not sent, "it is no init"
    process(tmp_path, 20, inner=1)
    assert _lxc_process.power_off_systemd(UUID, str(tmp_path))
    assert sent == [(20, 38)]


def test_another_init_is_not_sent_systemds_signal(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.kill", lambda pid, number: pytest.fail("a signal was sent"))
    process(tmp_path, 20, inner=1, comm="init")
    assert not _lxc_process.power_off_systemd(UUID, str(tmp_path))


def test_whether_libvirt_hears_of_a_container(tmp_path: pathlib.Path) -> None:
    listing = tmp_path / "unix"
    listing.write_text(LISTING.format(""))
    assert not _lxc_process.is_heard("ct1", str(listing)), "it only listens"
    listing.write_text(LISTING.format(CONNECTED))
    assert _lxc_process.is_heard("ct1", str(listing)) and not _lxc_process.is_heard("ct", str(listing))


class Domain:
    """A virDomain of which libvirt knows, or has lost sight."""

    def __init__(self, heard_from: int, lives_from: int = 0) -> None:
        self.starts = self.destroyed = 0
        self.heard_from = heard_from
        self.lives_from = lives_from
        self.active = False

    def name(self) -> str:
        return "ct1"

    def UUIDString(self) -> str:  # noqa: N802
        return UUID

    def createWithFlags(self, flags: int) -> None:  # noqa: N802
        self.starts += 1
        self.active = self.starts >= self.lives_from

    def destroy(self) -> None:
        self.destroyed += 1
        self.active = False

    def isActive(self) -> bool:  # noqa: N802
        return self.active


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_HEARD", "_NEWS"):
        monkeypatch.setattr(_dialect, name, 0.0)
    monkeypatch.setattr(_dialect, "processes_of", lambda uuid: [1])


@pytest.mark.usefixtures("quick")
def test_one_that_libvirt_lost_sight_of_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain(heard_from=2)
    monkeypatch.setattr(_dialect, "is_heard", lambda name: domain.starts >= domain.heard_from)
    _dialect.LXC.start(domain, 0)
    assert (domain.starts, domain.destroyed, domain.active) == (2, 1, True)
    domain = Domain(heard_from=99)
    with pytest.raises(DriverError, match="lost sight"):
        _dialect.LXC.start(domain, 0)
    assert not domain.active


def test_a_start_is_over_when_its_init_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load libvirt is ready some time before; the container was then taken for one that had crashed."""
    domain, looks = Domain(heard_from=1), iter([[], [], [1], [1]])
    monkeypatch.setattr(_dialect, "is_heard", lambda name: True)
    monkeypatch.setattr(_dialect, "processes_of", lambda uuid: next(looks))
    _dialect.LXC.start(domain, 0)
    assert next(looks, None) is None and (domain.starts, domain.destroyed) == (1, 0)


@pytest.mark.usefixtures("quick")
def test_one_that_ends_at_once_is_started_again_and_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dialect, "is_heard", lambda name: True)
    domain = Domain(heard_from=1, lives_from=3)
    _dialect.LXC.start(domain, 0)
    assert (domain.starts, domain.active) == (3, True)
    domain = Domain(heard_from=1, lives_from=99)
    with pytest.raises(DriverError, match="guest ct1: started 3 times, and each time it ended"):
        _dialect.LXC.start(domain, 0)


@pytest.mark.usefixtures("quick")
def test_one_without_processes_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dialect, "is_heard", lambda name: True)
    monkeypatch.setattr(_dialect, "processes_of", lambda uuid: [])
    domain = Domain(heard_from=1)
    with pytest.raises(DriverError, match="lost sight"):
        _dialect.LXC.start(domain, 0)
    assert (domain.starts, domain.destroyed, domain.active) == (3, 3, False)


@pytest.mark.usefixtures("quick")
def test_libvirt_is_told_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain(heard_from=1)
    domain.active = True
    assert not _dialect.LXC.has_ended(domain) and not domain.destroyed
    monkeypatch.setattr(_dialect, "processes_of", lambda uuid: [])
    assert _dialect.LXC.has_ended(domain) and domain.destroyed == 1
