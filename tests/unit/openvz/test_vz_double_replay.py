# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double against the transcript of the real vzctl 4.11: every command, in order.

What it does not reproduce stands in NOT_REPRODUCED and PREPARED, with the reason; an entry that is not needed any more
fails the test, so the list cannot grow old.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest
from recorded import Command, commands
from vz_node import Node

#: (stream, line, why): lines of the recording that the double does not print.
NOT_REPRODUCED = (
    ("err", r"Warning: configuration file for distribution tiny-.*", "the recorder's tiny template had no dists file"),
    ("err", r"File /usr/sbin/vzquota not found", "the recorder's machine had no vzquota"),
    (
        "err",
        r"\(00\.000000\) CRIU run id = .*",
        "CRIU's words, not vzctl's: an OpenVZ kernel has its own checkpointing",
    ),
    ("err", r"Error \(criu/.*", "CRIU's words, not vzctl's"),
    ("err", r"The restore log was saved in .*", "only said with CRIU"),
    ("out", r"Preloading kernel module: nfs", "the double loads no kernel modules"),
    ("err", r"libkmod: ERROR .*", "the recorder's /proc had no modules"),
    ("err", r"Error: could not get list of modules: .*", "the recorder's /proc had no modules"),
    ("err", r"Warning: can't load nfs: ", "the recorder's /proc had no modules"),
)
#: Words that the transcript's spaces do not show.
WORDS = {
    "first ct": ["first ct"],
    "echo hi; echo oops >&2; exit 7": ["echo hi; echo oops >&2; exit 7"],
}


class Replay:
    """The state between the recorded commands."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.node = Node(tmp_path / "node", vswap=False)  # recorded on a kernel without VSwap
        self.script = tmp_path / "script"
        self.gate = tmp_path / "gate"
        self.holder: subprocess.Popen[str] | None = None
        self.times: dict[str, int] = {}
        self.prepared: set[str] = set()

    def before(self, command: Command) -> None:
        """PREPARED: what the recorder did between two commands without writing it down."""
        nth = self.times[command.text] = self.times.get(command.text, -1) + 1
        if (command.text, nth) == ("vzctl start 201   [delegated cgroup2]", 1):
            # The reference says that a start restores a dump; the recording shows an ordinary start right after a
            # suspend. So the dump was taken away in between (the recorder's CRIU could not restore it).
            shutil.rmtree(self.node.root / "vz/dump/Dump.201")
            self.prepared.add("dump")
        if (command.text, nth) == ("vzctl set 201 --cpus 1 --save", 0):
            self._hold_lock()
            self.prepared.add("lock")
        if (command.text, nth) == ("vzctl destroy 201", 2):
            self._release_lock()

    def _hold_lock(self) -> None:
        """As the recorder did: a script that takes its time, in a container that is down and so runs meanwhile."""
        self.script.write_text(f"echo ready; while [ ! -e {self.gate} ]; do sleep 0.05; done\n", encoding="utf-8")
        self.holder = self.node.popen("vzctl", "runscript", "201", str(self.script))
        assert self.holder.stdout is not None
        for line in self.holder.stdout:
            if line == "ready\n":
                break
        assert [path.name for path in (self.node.root / "vz/lock").iterdir()] == ["201.lck"]

    def _release_lock(self) -> None:
        self.gate.touch()
        assert self.holder is not None
        self.holder.communicate(timeout=20)
        assert list((self.node.root / "vz/lock").iterdir()) == []

    def words(self, text: str) -> list[str]:
        text = text.partition("   [")[0]
        for joined, words in WORDS.items():
            if text.endswith(joined):
                return [*text[: -len(joined)].split(), *words]
        return text.split()

    def shown(self, text: str) -> list[str]:
        text = text.replace(str(self.node.root), "")
        text = re.sub(
            r"Locked by: pid \d+, cmdline \S*python\S* -B \S*/run.py vzctl", "Locked by: pid 5108, cmdline vzctl", text
        )
        return text.replace(str(self.script), "(scratch)").splitlines()


def expected(stream: str, lines: list[str], used: set[str]) -> list[str]:
    kept = []
    for line in lines:
        reasons = [
            pattern for which, pattern, _why in NOT_REPRODUCED if which == stream and re.fullmatch(pattern, line)
        ]
        used.update(reasons)
        kept += [] if reasons else [line]
    return kept


def files(replay: Replay, command: Command) -> None:
    """What the recorder noted of files."""
    root = replay.node.root
    if len(command.conf) > 5:
        lines = replay.node.conf(201).splitlines()
        assert [line for line in lines if not line.startswith("#")] == command.conf, command.text
    for note in command.other:
        if "alpha ->" in note:
            target = (root / "etc/vz/names/alpha").readlink()
            assert note.endswith(f"alpha -> {str(target).replace(str(root), '')}")
        elif note.startswith("left|"):
            assert (root / "etc/vz/conf" / note.partition("|")[2].strip()).exists()
            assert not (root / "etc/vz/conf/201.conf").exists()
        elif note.startswith("/etc/vz/conf/"):
            assert (root / note.lstrip("/")).exists()
        else:
            assert note == "201.lck", note  # looked at while it is held


def test_every_recorded_command(tmp_path: pathlib.Path) -> None:
    replay = Replay(tmp_path)
    used: set[str] = set()
    wrong = []
    try:
        for command in commands():
            replay.before(command)
            done = replay.node.run(*replay.words(command.text))
            found = (done.returncode, replay.shown(done.stdout), replay.shown(done.stderr))
            wanted = (command.code, expected("out", command.out, used), expected("err", command.err, used))
            if found != wanted:
                wrong.append(f"$ {command.text}\n  wanted {wanted}\n  found  {found}")
            files(replay, command)
    finally:
        replay.gate.touch()
    assert not wrong, "\n".join(wrong)
    assert len(commands()) == 80
    assert used == {pattern for _stream, pattern, _why in NOT_REPRODUCED}, "entries that are not needed any more"
    assert replay.prepared == {"dump", "lock"}


@pytest.mark.parametrize("why", [why for _stream, _pattern, why in NOT_REPRODUCED])
def test_every_exception_has_a_reason(why: str) -> None:
    assert len(why) > 10
