# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What still works on a container's move, also when the module that began it was killed: vzmigrate, or our copy to LXC.

The command lines of all processes tell, because OpenVZ's tools keep no list of jobs.
"""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

#: Container number and uuid -> name of the job that is active on it, or None.
Jobs = t.Callable[[str, str], t.Optional[str]]

#: What the program on the target is called that takes a copy (`_vz_move_lxc`); its ssh has that in its command line.
RECEIVER = "receive"


#: What vzmigrate of vzctl 7 becomes: it puts another program into its own place.
_MIGRATES = ("pmigrate.c2c", "vzmsrc")


def no_jobs(ctid: str, uuid: str) -> str | None:
    """For who does not want to know."""
    return None


def read_jobs(proc: pathlib.Path, mount_point: t.Callable[[str], pathlib.Path]) -> Jobs:
    """As it is now. `mount_point`: where the files of a container are while it is copied."""
    commands = [words for words in map(_command, sorted(proc.glob("[0-9]*"))) if words]

    def job(ctid: str, uuid: str) -> str | None:
        if not commands:  # nearly always: then no configuration is read for where the files would be
            return None
        root = str(mount_point(ctid))
        names = (_job(words, ctid, uuid, root) for words in commands)
        return next((name for name in names if name is not None), None)

    return job


def _job(words: t.Sequence[str], ctid: str, uuid: str, root: str) -> str | None:
    names = _names(words)
    if "vzmigrate" in names:
        return "vzmigrate" if ctid in words[1:] else None
    if names[0] in _MIGRATES:  # HOST/CTID is one word
        return "vzmigrate" if any(ctid in word for word in words[1:]) else None
    if names[0] == "tar" and root in words:
        return "copy"
    if names[0] == "ssh" and RECEIVER in words[-1] and uuid in words[-1]:
        return "copy"
    return None


def _names(words: t.Sequence[str]) -> list[str]:
    """What the program may be called. Legacy vzmigrate is a script: its interpreter comes first."""
    return [pathlib.PurePosixPath(word).name for word in words[:2]]


def _command(directory: pathlib.Path) -> list[str]:
    """Of a process; nothing for one that is of no interest, runs inside a container, or ends meanwhile."""
    with contextlib.suppress(OSError):
        line = (directory / "cmdline").read_bytes().rstrip(b"\0")
        words = [word.decode(errors="surrogateescape") for word in line.split(b"\0")]
        names = _names(words)
        if ("vzmigrate" in names or names[0] in ("tar", "ssh", *_MIGRATES)) and not _inside(directory):
            return words
    return []


def _inside(directory: pathlib.Path) -> bool:
    """A HostOS sees its containers' processes too; whose they are is no matter to anybody but OpenVZ's kernel."""
    for line in (directory / "status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("envID:"):
            return line.split()[1:] != ["0"]
    return False
