# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""start, stop, restart, mount, umount, status, suspend, resume."""

from __future__ import annotations

from . import faults
from .backend import remove_tree
from .container import Container
from .say import Failure, Say


def status(ct: Container, say: Say) -> None:
    """Says it also when nobody wants to hear anything, and never fails."""
    words = [
        "exist" if ct.exists else "deleted",
        "mounted" if ct.mounted else "unmounted",
        "running" if ct.running else "down",
    ]
    if not ct.root.exists():
        say.err(f"stat({ct.conf['VE_ROOT']}): No such file or directory")
    Say().out(f"CTID {ct.ctid} {' '.join(words)}{' suspended' if ct.suspended else ''}")


def start(ct: Container, say: Say, *, force: bool = False) -> None:
    if ct.conf.get("DISABLED") == "yes" and not force:
        raise say.fail(105, "Container start disabled")
    if ct.running:
        raise say.fail(32, "Container is already running")
    if ct.dump.exists():  # from the sources; the transcript does not show it
        say.out("Restoring container ...")
        try:
            restore(ct, say)
        except Failure:  # the real one starts anew then, and throws the dump away
            remove_tree(ct.dump)
        else:
            return
    if not ct.private.exists():
        raise say.fail(43, f"Container private area {ct.conf['VE_PRIVATE']} does not exist")
    say.out("Starting container...")
    _mount(ct, say)
    try:
        faults.strike("start", say)
    except Failure:
        _umount(ct, say)
        raise
    if ct.nics:
        say.out(f"Configure veth devices: {' '.join(nic['host_ifname'] for nic in ct.nics)} ")
    ct.backend.start(ct)
    say.out("Container start in progress...")


def stop(ct: Container, say: Say, *, fast: bool, umount_too: bool = True) -> None:
    """Of a container that is down: a word on stderr, and success."""
    if not ct.running:
        say.err("Unable to stop: container is not running")
        return
    say.out("Killing container ..." if fast else "Stopping container ...")
    faults.strike("stop", say)
    ct.backend.stop(ct, fast=fast)
    say.out("Container was stopped")
    if umount_too:
        _umount(ct, say)


def restart(ct: Container, say: Say, *, fast: bool, force: bool) -> None:
    say.out("Restarting container")
    if ct.running:
        stop(ct, say, fast=fast)
    start(ct, say, force=force)


def mount(ct: Container, say: Say) -> None:
    if ct.mounted:
        say.err("Container is already mounted")
        return
    if not ct.private.exists():
        raise say.fail(43, f"Container private area {ct.conf['VE_PRIVATE']} does not exist")
    _mount(ct, say)


def umount(ct: Container, say: Say) -> None:
    if ct.running:
        raise say.fail(32, "Container is running -- stop it first")
    if not ct.mounted:
        raise say.fail(40, "CT is not mounted")
    _umount(ct, say)


def _mount(ct: Container, say: Say) -> None:
    if not ct.mounted:
        ct.root.mkdir(parents=True, exist_ok=True)
        ct.backend.mount(ct)
        say.out("Container is mounted")


def _umount(ct: Container, say: Say) -> None:
    if ct.mounted:
        ct.backend.umount(ct)
        say.out("Container is unmounted")


def checkpoint(ct: Container, say: Say, act: str) -> None:
    """`act`: "" for a whole checkpoint to disk; --suspend freezes only, --resume lets it go on."""
    if not ct.running:
        raise say.fail(31, "Unable to setup checkpointing: container is not running")
    faults.strike("suspend", say)
    if act == "suspend":
        ct.backend.freeze(ct)
        return
    if act == "resume":
        ct.backend.thaw(ct)
        return
    if act == "kill":
        ct.backend.stop(ct, fast=True)
    else:
        _dump(ct)
        if act == "dump":
            return
        ct.backend.stop(ct, fast=True)
    _umount(ct, say)
    if act == "":
        say.err("Checkpointing finished successfully")


def _dump(ct: Container) -> None:
    """A marker: memory is not preserved."""
    ct.dump.mkdir(parents=True, exist_ok=True)
    (ct.dump / "double").write_text("made by the double: no memory is in here\n", encoding="utf-8")


def restore(ct: Container, say: Say, act: str = "") -> None:
    if ct.running:
        raise say.fail(32, "Container is already running")
    if act:
        raise say.fail(17, f"Unable to {act}: the double restores as a whole only")
    _mount(ct, say)
    try:
        faults.strike("resume", say)
        if not ct.dump.exists():
            raise say.fail(17, 'Container restore failed (try to check kernel messages, e.g. "dmesg | tail")')
    except Failure:
        _umount(ct, say)
        raise
    ct.backend.start(ct)
    remove_tree(ct.dump)
    say.out("Container start in progress...")
