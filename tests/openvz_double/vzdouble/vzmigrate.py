# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vzmigrate`, legacy: cold for real over ssh. Live where nothing runs (`recording`): the order of the reference, with
a dump that holds no memory. Where LXC runs the containers it ends with the checks, or with 8: no checkpoint.

Written from the reference (nobody recorded vzmigrate): order of the checks, exit codes, what is kept on the source.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import typing as t

from . import faults, lifecycle, locks, paths
from .backend import backend, remove_tree
from .container import Container, drop_names, owner_of
from .getopt import BadOption, getopt_long
from .say import Failure, Say

_LONG = {
    "remove-area": True,
    "ssh": True,
    "ssh-mux": False,
    "rsync": True,
    "keep-dst": False,
    "live": False,
    "online": False,
    "check-only": False,
    "dry-run": False,
    "nodeps": False,
}
_SHORT = "r:csftvh"


class Target:
    """The other HostOS, by ssh."""

    def __init__(self, host: str, options: t.Sequence[str]) -> None:
        self.host = host if "@" in host else f"root@{host}"
        self.ssh = [os.environ.get("OPENVZ_DOUBLE_SSH", "ssh"), *options]

    def run(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        line = " ".join(shlex.quote(word) for word in words)
        return subprocess.run([*self.ssh, self.host, line], input=stdin, capture_output=True, check=False)

    def copy(self, source: str, target: str) -> bool:
        """A directory, as one tar stream; the real tool uses rsync."""
        there = f'"$OPENVZ_DOUBLE_ROOT"{shlex.quote(target)}'
        unpack = f"mkdir -p {there} && tar -C {there} --numeric-owner -xpf -"
        with subprocess.Popen(["tar", "-C", source, "--numeric-owner", "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
            unpacked = subprocess.run([*self.ssh, self.host, unpack], stdin=tar.stdout, check=False)
        return unpacked.returncode == 0 and tar.returncode == 0

    def has(self, path: str) -> bool:
        """Whether the kernel there shows a file of /proc."""
        there = f'"$OPENVZ_DOUBLE_ROOT{path}"'
        line = f'test -e {there} || test -z "$OPENVZ_DOUBLE_ROOT" -a -e {paths.KERNEL}{path}'
        return self.run("sh", "-c", line).returncode == 0

    def put(self, path: str, content: bytes) -> bool:
        line = f'cat > "$OPENVZ_DOUBLE_ROOT{path}"'
        return self.run("sh", "-c", line, stdin=content).returncode == 0


def main(argv: t.Sequence[str]) -> int:
    say = Say()
    try:
        given, rest = _parse(argv[1:], say)
        number = int(rest[1]) if rest[1].isdigit() else (owner_of(rest[1]) or 0)
        ct = Container(number, backend())
        target = Target(rest[0], given.get("ssh", []))
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.held(number, say))
            except Failure:
                return 20
            faults.strike("migrate", say)
            _migrate(ct, target, given, say)
    except Failure as failure:
        return failure.code
    return 0


def _parse(words: t.Sequence[str], say: Say) -> tuple[dict[str, list[str]], list[str]]:
    given: dict[str, list[str]] = {}
    rest = []
    try:
        for option, value in getopt_long(words, _LONG, say, "vzmigrate", _SHORT):
            if option == "":
                rest.append(value)
                continue
            name = {"r": "remove-area", "s": "", "online": "live", "check-only": "dry-run"}.get(option, option)
            given.setdefault(name, []).extend(value.split() if name == "ssh" else [value])
    except BadOption:
        raise say.fail(1) from None
    if len(rest) != 2 or given.get("remove-area", ["yes"])[0] not in ("yes", "no"):
        raise say.fail(1, "Usage: vzmigrate [-r yes|no] [--ssh=OPTIONS] [--keep-dst] [--live] [-v] HOST CTID")
    return given, rest


def _migrate(ct: Container, target: Target, given: t.Mapping[str, list[str]], say: Say) -> None:
    live = "live" in given
    _check(ct, target, live, say)
    if "dry-run" in given:
        return
    say.out(f"Starting migration of container {ct.ctid} to {target.host.partition('@')[2]}")
    was_running = ct.running
    private = ct.conf["VE_PRIVATE"]
    if live:
        _checkpoint(ct, say)
    elif was_running:
        lifecycle.stop(ct, Say(quiet=True), fast=False)
    elif ct.mounted:
        lifecycle.umount(ct, Say(quiet=True))
    try:
        _copy(ct, target, private, say)
        if live and not target.copy(str(ct.dump), ct.dump_shown):
            raise say.fail(6, "Failed to copy dump file")
    except Failure:
        if was_running:
            lifecycle.start(ct, Say(quiet=True))  # from its dump, if it has one
        raise
    if was_running and target.run("vzctl", "restore" if live else "start", str(ct.ctid)).returncode:
        _undo(ct, target, private, keep="keep-dst" in given)
        lifecycle.start(ct, Say(quiet=True))
        raise say.fail(7, f"Failed to {'undump' if live else 'start'} container on destination node")
    remove_tree(ct.dump)
    if given.get("remove-area", ["yes"])[0] == "yes":
        _leave(ct)
    say.out("Migration completed")


def _check(ct: Container, target: Target, live: bool, say: Say) -> None:
    if ct.own is None or not ct.exists:
        raise say.fail(10, f"Error: CT {ct.ctid} doesn't exist")
    if live and not ct.running:
        raise say.fail(2, "Error: CT is not running, live migration is not possible")
    if target.run("true").returncode:
        raise say.fail(4, f"Error: can not connect to {target.host}")
    if target.run("/etc/init.d/vz", "status").returncode:
        raise say.fail(14, "Error: OpenVZ is not running on the destination node")
    if live and not paths.real("/proc/cpt").exists():
        raise say.fail(14, "Error: vzcpt module is not loaded on the source node")
    if live and not target.has("/proc/rst"):
        raise say.fail(14, "Error: vzrst module is not loaded on the destination node")
    if b" exist " in target.run("vzctl", "status", str(ct.ctid)).stdout:
        raise say.fail(9, f"Error: CT {ct.ctid} already exists on the destination node")


def _copy(ct: Container, target: Target, private: str, say: Say) -> None:
    if not target.copy(str(ct.private), private):
        raise say.fail(6, "Failed to sync container private areas")
    if not target.put(ct.conf_path, paths.real(ct.conf_path).read_bytes()):
        raise say.fail(6, "Failed to copy config file")
    name = ct.conf.get("NAME")
    if name and target.run("vzctl", "set", str(ct.ctid), "--name", name, "--save").returncode:
        _undo(ct, target, private, keep=False)
        raise say.fail(6, "Failed to give the container its name on the destination node")


def _checkpoint(ct: Container, say: Say) -> None:
    """The reference copies the files once before, too; that changes nothing of the result."""
    if not ct.backend.checkpoints:
        raise say.fail(8, "Failed to suspend container: the double cannot checkpoint memory")
    try:
        lifecycle.checkpoint(ct, Say(quiet=True), "")
    except Failure:
        raise say.fail(8, "Failed to suspend container") from None


def _undo(ct: Container, target: Target, private: str, *, keep: bool) -> None:
    if not keep:
        left = " ".join(f'"$OPENVZ_DOUBLE_ROOT{path}"' for path in (private, ct.conf_path, ct.dump_shown))
        target.run("sh", "-c", f"rm -rf {left}")


def _leave(ct: Container) -> None:
    """The source keeps its configuration as CTID.conf.migrated."""
    private, root = ct.private, ct.root
    source = paths.real(ct.conf_path)
    drop_names(ct.ctid)
    source.rename(source.with_name(source.name + ".migrated"))
    remove_tree(private)
    remove_tree(root)
