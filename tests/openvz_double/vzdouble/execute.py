# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""exec, exec2, exec3, enter and runscript."""

from __future__ import annotations

import pathlib
import typing as t

from . import lifecycle
from .container import Container
from .say import Say


def refuse(command: str, words: t.Sequence[str], say: Say) -> None:
    if command == "enter":
        if words and words[0] != "--exec":
            raise say.fail(20, f"Invalid option '{words[0]}'")
        if words and not "".join(words[1:]):
            raise say.fail(20, "No command line given for --exec")
    elif not words:
        raise say.fail(20, "Script not specified" if command == "runscript" else "No command line given for exec")


def run(ct: Container, command: str, words: t.Sequence[str], say: Say) -> int:
    if command == "runscript":
        return _runscript(ct, words[0], say)
    if not ct.running:
        raise say.fail(8 if command == "exec" else 31, "Container is not running")
    if command == "enter":
        return ct.backend.execute(ct, words[1:] or ["/bin/bash"])
    if command == "exec3":
        return ct.backend.execute(ct, words)
    line = " ".join(word or "''" for word in words)
    code = ct.backend.execute(ct, ["/bin/bash", "-c", line])
    return 8 if code and command == "exec" else code


def _runscript(ct: Container, script: str, say: Say) -> int:
    """A container that is down is started for as long as the script runs."""
    if not pathlib.Path(script).is_file():
        raise say.fail(11, f"Script not found: {script}")
    was_down = not ct.running
    if was_down:
        lifecycle.start(ct, say)
    try:
        return ct.backend.execute(ct, ["/bin/bash", script])
    finally:
        if was_down:
            lifecycle.stop(ct, say, fast=True)
