# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small parts of a move: holes, pace, time limit, XML, lists of files, processes."""

from __future__ import annotations

import os
import pathlib
import threading
import time
import typing as t
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _kvm_move_job as job
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_mark import read_mark
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_files import (
    Departure,
    Departures,
    Receipt,
    find_receipts,
    make_durable,
    remove_files,
)
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_proof import wait_until
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_move_target import bracketed, extents
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_observe import qemu_processes
from stage import MIB, UUID, Domain, error, mark

DEPARTURE = Departure(UUID, "wn1", "move-1", 1, 2, "node02", "10.0.0.2", False, ("/pool/demo/wn1-root.qcow2",), None)


def test_extents_are_the_file_in_order_without_gaps(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as out:
        out.truncate(16 * MIB)
        for start in (0, 5 * MIB):
            out.seek(start)
            out.write(b"d" * MIB)
    with path.open("rb") as file:
        found = list(extents(file.fileno(), 16 * MIB))
    assert found == [
        ("data", 0, MIB),
        ("hole", MIB, 5 * MIB),
        ("data", 5 * MIB, 6 * MIB),
        ("hole", 6 * MIB, 16 * MIB),
    ]
    empty = tmp_path / "empty"
    empty.touch()
    with empty.open("rb") as file:
        assert list(extents(file.fileno(), 0)) == []


def test_addresses_in_uris() -> None:
    assert bracketed("10.0.0.2") == "10.0.0.2"
    assert bracketed("fd12::2") == "[fd12::2]"


def test_uploads_keep_to_their_bandwidth() -> None:
    pause = job.pacer("wn1", job.Clock(None), 10 * MIB)
    begin = time.monotonic()
    for _packet in range(20):
        pause(MIB // 8)
    assert 0.2 <= time.monotonic() - begin < 5, "2.5 MiB at 10 MiB/s take a quarter of a second"


def test_the_time_limit_ends_an_upload() -> None:
    clock = job.Clock(1)
    pause = job.pacer("wn1", clock, None)
    pause(1)
    assert wait_until(lambda: clock.over, 5)
    with pytest.raises(job.TimedOut, match="guest wn1: given up after 1 s"):
        pause(1)


class Slow(Domain):
    """A domain whose migration ends only when it is aborted."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals
        self.aborted = threading.Event()

    def abort_job(self) -> None:
        self.calls.append("abort")
        if self.refusals:
            self.refusals -= 1
            raise error("VIR_ERR_OPERATION_INVALID", "no job is active")
        self.aborted.set()

    def migrate(self) -> None:
        assert self.aborted.wait(30)
        raise error("VIR_ERR_OPERATION_ABORTED", "canceled by client")


@pytest.mark.parametrize("refusals", [0, 2])
def test_a_migration_that_takes_too_long_is_aborted(monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
    monkeypatch.setattr(job, "LOOK", 0.05)
    domain = Slow(refusals)
    with pytest.raises(job.TimedOut, match="given up after 0 s"):
        job._watched("wn1", domain, job.Clock(0), domain.migrate)
    assert domain.calls[: refusals + 1] == ["abort"] * (refusals + 1)


def test_a_migration_that_ends_at_the_last_moment_has_ended_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "LOOK", 0.05)
    domain = Slow(0)
    job._watched("wn1", domain, job.Clock(0), lambda: domain.aborted.wait(30))
    assert domain.calls, "it was asked to stop, but had arrived"


def test_a_call_that_is_never_answered_does_not_keep_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "LOOK", 0.05)
    looks = iter([None, None, "guest wn1: it rebooted"])
    never = threading.Event()
    with pytest.raises(job.Stuck, match="it rebooted"):
        job._watched("wn1", Domain(), job.Clock(None), never.wait, lambda: next(looks))
    waiting = [thread for thread in threading.enumerate() if thread.daemon and "run" in thread.name]
    assert waiting, "the interpreter would wait for a thread that is no daemon"
    never.set()


def test_an_error_beside_the_call_is_told_when_libvirt_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken back while libvirt still moves it."""
    monkeypatch.setattr(job, "LOOK", 0.05)
    domain, ended = Slow(0), threading.Event()

    def abort(_domain: Slow) -> None:
        raise error("VIR_ERR_RPC", "connection lost")

    monkeypatch.setattr(job, "_abort", abort)

    def call() -> None:
        time.sleep(0.5)
        ended.set()

    with pytest.raises(type(error("VIR_ERR_OK")), match="connection lost"):
        job._watched("wn1", domain, job.Clock(0), call)
    assert ended.is_set()


def test_an_error_of_libvirt_is_told_as_it_is() -> None:
    def fail() -> None:
        raise error("VIR_ERR_OPERATION_FAILED", "unable to connect to server")

    with pytest.raises(type(error("VIR_ERR_OK")), match="unable to connect"):
        job._watched("wn1", Domain(), job.Clock(None), fail)


def test_an_error_of_ours_in_the_call_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: told.set())

    def fail() -> None:
        raise KeyError("a defect")

    with pytest.raises(job.DriverError, match="answer to its move could not be read"):
        job._watched("wn1", Domain(), job.Clock(None), fail)
    assert told.wait(10), "the traceback is shown"


def test_only_the_mark_changes_on_the_way() -> None:
    before = Domain(epoch=1).xmldesc()
    after = ET.fromstring(job.travelling_xml(before, mark(2)))
    found = read_mark(after)
    assert found is not None and found.epoch == 2
    for xml in (after, before_xml := ET.fromstring(before)):
        metadata = t.cast(ET.Element, xml.find("metadata"))
        metadata.clear()
    assert ET.tostring(after) == ET.tostring(before_xml)


def test_departures_are_kept(tmp_path: pathlib.Path) -> None:
    departures = Departures(str(tmp_path))
    assert departures.get(UUID) is None and departures.remove(UUID) is False and departures.aborted(UUID) is None
    departures.write(DEPARTURE)
    assert departures.get(UUID) == DEPARTURE
    departures.abort(UUID, "move-1")
    assert departures.aborted(UUID) == "move-1"
    assert departures.remove(UUID) and departures.get(UUID) is None and departures.aborted(UUID) == "move-1"


def test_a_departure_that_cannot_be_read_is_an_error(tmp_path: pathlib.Path) -> None:
    departures = Departures(str(tmp_path))
    departures.write(DEPARTURE)
    next((tmp_path / "departures").glob("*.json")).write_text("{")
    with pytest.raises(DriverError, match="cannot be understood"):
        departures.get(UUID)


def test_receipts_are_found_for_their_guest_only(tmp_path: pathlib.Path) -> None:
    receipt = Receipt(UUID, "wn1", "move-1", 2, "node01", (str(tmp_path / "demo/wn1-root.qcow2"),))
    folder = tmp_path / "demo"
    folder.mkdir()
    path = folder / "wn1.incoming.json"
    assert find_receipts([str(tmp_path)], "demo", "wn1", UUID) == []
    path.write_bytes(receipt.to_bytes())
    assert find_receipts([str(tmp_path)], "demo", "wn1", UUID) == [(path, receipt)]
    assert find_receipts([str(tmp_path)], "demo", "wn1", "another uuid") == []
    assert find_receipts([str(tmp_path)], "other", "wn1", UUID) == []
    path.write_bytes(b"\0" * 40)
    assert find_receipts([str(tmp_path)], "demo", "wn1", UUID) == [(path, None)], "cut off while it was written"


def test_nothing_is_removed_where_one_file_is_in_use(tmp_path: pathlib.Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b", "c")]
    for path in paths[:2]:
        pathlib.Path(path).touch()
    with pytest.raises(DriverError, match=r"b is used by a guest of this HostOS and is not removed"):
        remove_files(paths, {paths[1]})
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert remove_files(paths, set()) == paths[:2]
    assert os.listdir(tmp_path) == []


def test_what_is_missing_cannot_be_made_durable(tmp_path: pathlib.Path) -> None:
    there = tmp_path / "there"
    there.touch()
    make_durable([str(there)])
    with pytest.raises(DriverError, match="missing came with a move and cannot be opened"):
        make_durable([str(there), str(tmp_path / "missing")])


def test_qemu_is_known_by_the_uuid_on_its_command_line(tmp_path: pathlib.Path) -> None:
    for pid, words in (
        ("10", f"qemu\0-name\0x\0-uuid\0{UUID}\0"),
        ("11", f"grep\0{UUID}\0"),
        ("self", f"-uuid\0{UUID}\0"),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(words.encode())
    assert qemu_processes(UUID, str(tmp_path)) == [10]
