# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart libvirt's daemons for a new configuration, but never in the middle of a move.

Guests keep running while libvirt restarts; a migration does not survive it. So this holds the lock that `guest` and
`guest_migrate` hold, and waits for jobs that others started. The only argument is JSON: uri, services, sockets,
state_dir, timeout (seconds).
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t

RETRY = 0.5  # seconds


def systemctl(*arguments: str) -> bool:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and arguments[0] != "is-active":
        raise SystemExit(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.returncode == 0


def busy_guests(uri: str) -> list[str]:
    """Guests with a job (migration, save, dump) in progress."""
    import libvirt

    connection = libvirt.openReadOnly(uri)
    try:
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return [domain.name() for domain in domains if has_job(domain)]
    finally:
        connection.close()


def has_job(domain: t.Any) -> bool:
    import libvirt

    try:
        return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)
    except libvirt.libvirtError:  # it has gone since the list was made
        return False


def wait_for(ready: t.Callable[[], bool], deadline: float, explain: t.Callable[[], str]) -> None:
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(
                f"libvirt was not restarted for its new configuration: {explain()}. Run the playbook again afterwards"
            )
        time.sleep(RETRY)


def main() -> None:
    wish = json.loads(sys.argv[1])
    deadline = time.monotonic() + float(wish["timeout"])
    state_dir = pathlib.Path(wish["state_dir"])
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take_lock() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False

    wait_for(take_lock, deadline, lambda: f"the guests of this HostOS are being changed ({state_dir}/lock is held)")
    if any(systemctl("is-active", "--quiet", service) for service in wish["services"]):
        uri = wish["uri"]
        wait_for(
            lambda: not busy_guests(uri), deadline, lambda: f"{', '.join(busy_guests(uri))} is being moved or saved"
        )
    # A socket cannot be started while its service runs without it.
    systemctl("stop", *wish["services"])
    if wish["sockets"]:
        systemctl("enable", "--now", *wish["sockets"])
    systemctl("start", *wish["services"])


if __name__ == "__main__":
    main()
