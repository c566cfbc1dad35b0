# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of the lab needs: running commands, locks, files that are whole or not there, and the report.

The lab runs on the system's Python (3.9 or newer) with nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import subprocess
import typing as t


class LabError(Exception):
    """The lab cannot do what was asked; the message says what is wrong and what to do."""


class Report:
    """What was changed or, in check mode, what would be."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.actions: list[str] = []
        self.warnings: list[str] = []

    def will(self, action: str) -> bool:
        """Record a change; the answer says whether to carry it out."""
        self.actions.append(action)
        return not self.check


def run(*argv: str, stdin: t.Optional[str] = None) -> str:
    """Run a command and return its output. LabError names the command and the end of what it said."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed on this machine; let the lab role install its packages") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(argv)}: exit code {done.returncode}: {said}")
    return done.stdout


def boot_id() -> str:
    """Tells this boot of the machine from others: processes, links and sysctls do not outlive it."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> t.Iterator[int]:
    """Hold an exclusive lock on a directory (made when missing), which its holder may remove.

    Yields the descriptor: a child that inherits it holds the lock too.
    """
    while True:
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed by its last holder since the line above
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if directory.exists() and os.path.samestat(os.fstat(descriptor), directory.stat()):
            break
        os.close(descriptor)  # we waited for one that its holder removed
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write(path: pathlib.Path, text: str, mode: int = 0o644, owner: t.Optional[tuple[int, int]] = None) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(mode)
    if owner:
        os.chown(temporary, *owner)
    temporary.replace(path)


def read_json(path: pathlib.Path) -> t.Any:
    """The content of a JSON file that the lab wrote; None if there is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise LabError(f"{path}: not JSON ({error}); it was not written by the lab, remove it") from error
