# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double of vzmigrate between two nodes of files; a stand-in for ssh runs commands under the other node's root."""

from __future__ import annotations

import json
import os
import pathlib
import stat

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_argv as argv
from ansible_collections.oscarv.virt.plugins.module_utils._vz_dialect import LEGACY, Dialect
from vz_node import DOUBLE, Node

OLD = Dialect(LEGACY, "4.11.1")


class Pair:
    def __init__(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.target = Node(tmp_path / "source"), Node(tmp_path / "target")
        self.ssh = tmp_path / "ssh"
        self.vz = tmp_path / "vz-is-up"
        self.vz.touch()
        # ssh HOST COMMAND: the command runs with the target's files; /etc/init.d/vz is a file that is there or not.
        self.ssh.write_text(
            "#!/bin/sh\nshift\n"
            f"export OPENVZ_DOUBLE_ROOT={self.target.root} OPENVZ_DOUBLE_BACKEND=recording PATH={DOUBLE}:$PATH\n"
            f'case "$*" in "/etc/init.d/vz status") exec test -e {self.vz};; esac\n'
            'exec sh -c "$*"\n'
        )
        self.ssh.chmod(self.ssh.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("OPENVZ_DOUBLE_SSH", str(self.ssh))
        self.source.good("vzctl", "create", "201", "--ostemplate", "tiny-1.0-x86_64", "--name", "wn001")
        (self.source.root / "vz/private/201/data").write_text("precious")

    def move(self, *, live: bool = False, keep: bool = False) -> int:
        return self.source.run(*argv.migrate(OLD, "201", "10.0.0.2", live=live, keep_source=keep)).returncode


@pytest.fixture
def pair(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(tmp_path, monkeypatch)


def test_a_cold_move_takes_everything_along_and_runs_once(pair: Pair) -> None:
    pair.source.good("vzctl", "start", "201")
    before = pair.source.conf(201)
    assert pair.move() == 0
    assert "deleted" in pair.source.good("vzctl", "status", "201")
    assert not (pair.source.root / "vz/private/201").exists()
    assert (pair.source.root / "etc/vz/conf/201.conf.migrated").exists()
    assert pair.target.good("vzctl", "status", "wn001") == "CTID 201 exist mounted running\n"
    assert (pair.target.root / "vz/private/201/data").read_text() == "precious"
    assert pair.target.conf(201) == before


def test_a_stopped_one_stays_stopped_and_the_source_may_be_kept(pair: Pair) -> None:
    assert pair.move(keep=True) == 0
    assert pair.target.good("vzctl", "status", "201") == "CTID 201 exist unmounted down\n"
    assert pair.source.good("vzctl", "status", "201") == "CTID 201 exist unmounted down\n"


def test_live_is_refused_as_the_reference_says(pair: Pair) -> None:
    assert pair.move(live=True) == 2  # stopped
    pair.source.good("vzctl", "start", "201")
    assert pair.move(live=True) == 14  # no /proc/cpt
    (pair.source.root / "proc/cpt").touch()
    assert pair.move(live=True) == 14  # no /proc/rst over there
    assert "running" in pair.source.good("vzctl", "status", "201")


def test_live_takes_its_dump_along_and_leaves_nothing_here(pair: Pair) -> None:
    pair.source.good("vzctl", "start", "201")
    (pair.source.root / "proc/cpt").touch()
    (pair.target.root / "proc/rst").touch()
    assert pair.source.run(*argv.migrate(OLD, "201", "10.0.0.2", live=True, dry_run=True)).returncode == 0
    assert "running" in pair.source.good("vzctl", "status", "201")
    pair.target.fault("resume 17 1")
    assert pair.move(live=True) == 7
    assert "running" in pair.source.good("vzctl", "status", "201")
    assert "deleted" in pair.target.good("vzctl", "status", "201")
    assert pair.move(live=True) == 0
    assert "deleted" in pair.source.good("vzctl", "status", "201")
    assert pair.target.good("vzctl", "status", "201") == "CTID 201 exist mounted running\n"
    assert not [*pair.source.root.glob("vz/dump/*"), *pair.target.root.glob("vz/dump/*")]
    acts = json.loads((pair.source.root / "vz/double/201.json").read_text())["acts"]
    assert acts[-2:] == ["kill", "umount"], "it is not shut down: it was checkpointed"


def test_refusals_before_anything_changes(pair: Pair) -> None:
    pair.source.good("vzctl", "start", "201")
    assert pair.source.run("vzmigrate", "--bogus", "10.0.0.2", "201").returncode == 1
    assert pair.source.run("vzmigrate", "10.0.0.2").returncode == 1
    assert pair.source.run("vzmigrate", "10.0.0.2", "999").returncode == 10
    pair.target.good("vzctl", "create", "201", "--ostemplate", "tiny-1.0-x86_64")
    assert pair.move() == 9
    pair.vz.unlink()
    assert pair.move() == 14
    pair.ssh.write_text("#!/bin/sh\nexit 255\n")
    assert pair.move() == 4
    (pair.source.root / "vz/lock/201.lck").write_text(f"{os.getpid()}\n\n")
    assert pair.move() == 20
    assert "running" in pair.source.good("vzctl", "status", "201")


def test_one_that_does_not_start_over_there_goes_on_here(pair: Pair) -> None:
    pair.source.good("vzctl", "start", "201")
    pair.target.fault("start 34")
    assert pair.move() == 7
    assert pair.source.good("vzctl", "status", "201") == "CTID 201 exist mounted running\n"
    assert "deleted" in pair.target.good("vzctl", "status", "201")
