# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import subprocess

import ledgers
import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_known_hosts as known_hosts
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows

KEYS = {ledgers.uuid(number): rows.HostKeyRow(ledgers.uuid(number), ledgers.KEY, "x") for number in (1, 2, 3, 4)}


def test_one_line_per_guest_with_a_key() -> None:
    state = ledgers.state(
        ledgers.guest(2),
        ledgers.guest(1),
        ledgers.guest(3, state="released"),
        ledgers.guest(4, name="* evil"),
        ledgers.guest(5),
        nics=[ledgers.nic(1, addresses=("10.0.4.1", "fd00::1")), ledgers.nic(9, guest=ledgers.uuid(1), position=-1)],
        host_keys=KEYS,
    )
    header, *lines = known_hosts.text_of(state).splitlines()
    assert header.startswith("#") and "cluster demo" in header
    assert lines == [f"wn1,10.0.4.1,fd00::1 {ledgers.KEY}", f"wn2 {ledgers.KEY}"]


def test_ssh_itself_understands_the_file(tmp_path: pathlib.Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    key = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    keys = {ledgers.uuid(1): rows.HostKeyRow(ledgers.uuid(1), key, "x")}
    cluster = ledgers.cluster(tmp_path)
    known_hosts.write(
        cluster, known_hosts.text_of(ledgers.state(ledgers.guest(1), nics=[ledgers.nic(1)], host_keys=keys))
    )
    for name in ("wn1", "10.0.4.1"):
        found = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", known_hosts.path_of(cluster)], check=True, capture_output=True, text=True
        )
        assert key in found.stdout


def test_the_file_is_replaced_whole_and_only_when_it_differs(tmp_path: pathlib.Path) -> None:
    cluster = ledgers.cluster(tmp_path)
    assert not known_hosts.outdated(cluster, "")
    assert known_hosts.outdated(cluster, "a\n")
    known_hosts.write(cluster, "a\n")
    path = known_hosts.path_of(cluster)
    assert path == tmp_path / ".oscarv" / "known_hosts"
    assert path.read_text() == "a\n" and path.stat().st_mode & 0o777 == 0o644
    assert not known_hosts.outdated(cluster, "a\n") and known_hosts.outdated(cluster, "")
    assert [item.name for item in path.parent.iterdir()] == ["known_hosts"]


def test_a_failed_write_leaves_the_old_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    known_hosts.write_whole(path, "old", 0o600)

    def full_disk(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(known_hosts.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        known_hosts.write_whole(path, "new", 0o600)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
