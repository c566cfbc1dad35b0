# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vzctl`: global flags, command, container, options, lock, act."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

from . import create, execute, faults, lifecycle, locks, params, paths, setting
from .backend import backend
from .container import Container, owner_of
from .getopt import BadOption, getopt_long
from .say import Failure, Say

VERSION = "4.11.1-3.ga3f732ef"

_ALIASES = {"delete": "destroy", "chkpnt": "suspend", "restore": "resume"}
_PLAIN = ("destroy", "mount", "umount", "status", "quotaon", "quotaoff", "quotainit")
_POWER = ("start", "stop", "restart")
_INSIDE = ("exec", "exec2", "exec3", "enter", "runscript")
_COMMANDS = ("create", "set", *_PLAIN, *_POWER, "suspend", "resume", *_INSIDE)
#: These take no lock.
_FREE = ("exec", "exec2", "exec3", "enter", "status")
#: These need no configuration.
_UNCONFIGURED = ("create", "set", "status")
_POWER_OPTIONS = {
    "force": "start",
    "wait": "start",
    "skip_ve_setup": "start",
    "skip-fsck": "start",
    "skip-remount": "start",
    "fast": "stop",
    "skip-umount": "stop",
}
_CPT_OPTIONS = {
    "suspend": {"dump": False, "suspend": False, "resume": False, "kill": False},
    "resume": {"undump": False, "kill": False, "resume": False, "skip-remount": False, "skip-fsck": False},
}
_CPT_COMMON = {"dumpfile": True, "flags": True, "context": True, "skip_arpdetect": False}
_ACTS = ("dump", "suspend", "resume", "kill", "undump")


def main(argv: t.Sequence[str]) -> int:
    say = Say()
    try:
        return _main(list(argv[1:]), say)
    except Failure as failure:
        return failure.code


def _main(words: list[str], say: Say) -> int:
    skiplock = False
    while words and words[0].startswith("--"):
        flag = words.pop(0)
        if flag == "--version":
            say.out(f"vzctl version {VERSION}")
            return 0
        if flag == "--help":
            _help(say)
            return 0
        if flag == "--quiet":
            say.quiet = True
        elif flag == "--skiplock":
            skiplock = True
        elif flag != "--verbose":
            raise say.fail(20, f"Invalid option {flag}")
    if not words:
        _help(say)
        return 20
    command = _ALIASES.get(words[0], words[0])
    if command not in _COMMANDS:
        raise say.fail(20, f"Bad command: {words[0]}")
    if len(words) < 2:
        raise say.fail(21, "CT ID missing")
    ct = Container(_ctid(words[1], command, say), backend())
    act = _parse(command, ct, words[2:], say)
    if command not in _UNCONFIGURED and ct.own is None:
        raise say.fail(14, "Container config file does not exist")
    with contextlib.ExitStack() as stack:
        if command not in _FREE and not skiplock:
            faults.strike(f"lock-{command}", say)
            stack.enter_context(locks.held(ct.ctid, say))
        return act() or 0


def _help(say: Say) -> None:
    say.out(f"vzctl version {VERSION}")
    say.out("Copyright: this is a double of vzctl, for tests only.")
    say.out("Usage: vzctl [options] <command> <ctid> [parameters]")
    say.out("vzctl create | set | start | stop | restart | destroy | mount | umount | status | suspend | resume")
    say.out("vzctl exec | exec2 | enter | runscript")


def _ctid(word: str, command: str, say: Say) -> int:
    if word.isdigit():
        number = int(word)
        if number > 2147483644 or (number == 0 and command != "set"):
            raise say.fail(21, f"Bad CT ID {word}")
        return number
    found = owner_of(word) if "/" not in word else None
    if found is None:
        raise say.fail(21, f"Bad CT ID {word}")
    return found


def _parse(command: str, ct: Container, words: list[str], say: Say) -> t.Callable[[], int | None]:
    """The command with its options: what is left to do."""
    if command == "create":
        wanted = params.parse("create", ct.ctid, words, say)
        return lambda: create.create(ct, wanted, say)
    if command == "set":
        wanted = params.parse("set", ct.ctid, words, say)
        return lambda: setting.set_(ct, wanted, say)
    if command in _POWER:
        return _power(command, ct, words, say)
    if command in _CPT_OPTIONS:
        act = _checkpoint_act(command, words, say)
        handler = lifecycle.checkpoint if command == "suspend" else lifecycle.restore
        return lambda: handler(ct, say, act)
    if command in _INSIDE:
        execute.refuse(command, words, say)
        return lambda: execute.run(ct, command, words, say)
    if words:
        raise say.fail(20, f"Invalid options: {' '.join(words)} ")
    return lambda: _plain(command, ct, say)


def _plain(command: str, ct: Container, say: Say) -> None:
    if command == "destroy":
        create.destroy(ct, say)
    elif command == "status":
        lifecycle.status(ct, say)
    elif command == "mount":
        lifecycle.mount(ct, say)
    elif command == "umount":
        lifecycle.umount(ct, say)
    else:
        say.out("Disk quota is not enabled, skipping operation")
        raise Failure({"quotaon": 60, "quotainit": 61, "quotaoff": 66}[command])


def _power(command: str, ct: Container, words: list[str], say: Say) -> t.Callable[[], None]:
    given: set[str] = set()
    bad = False
    try:
        for option, _value in getopt_long(words, dict.fromkeys(_POWER_OPTIONS, False), say, "vzctl"):
            if option and command != "restart" and _POWER_OPTIONS[option] != command:
                raise say.fail(20, f"Option --{option} is not applicable to {command} command")
            given.add(option)
    except BadOption:
        bad = True
    if bad:
        raise Failure(20)
    fast, force = "fast" in given, "force" in given
    if command == "start":
        return lambda: lifecycle.start(ct, say, force=force)
    if command == "stop":
        return lambda: lifecycle.stop(ct, say, fast=fast, umount_too="skip-umount" not in given)
    return lambda: lifecycle.restart(ct, say, fast=fast, force=force)


def _checkpoint_act(command: str, words: list[str], say: Say) -> str:
    acts = []
    try:
        for option, _value in getopt_long(words, {**_CPT_OPTIONS[command], **_CPT_COMMON}, say, "vzctl"):
            acts += [option] if option in _ACTS else []
    except BadOption:
        raise Failure(20) from None
    if len(acts) > 1:
        raise say.fail(20, "Invalid syntax: only one sub command may be used")
    return acts[0] if acts else ""


def installed() -> bool:
    """Whether /etc/vz is there at all."""
    return pathlib.Path(paths.real(paths.CONF_DIR)).is_dir()
