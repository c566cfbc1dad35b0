# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this scenario's tests ask of Xen's HostOSes and of a KVM one beside them."""

from __future__ import annotations

import functools
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import typing as t

import pytest
import scenario
from scenario import Cluster, note

XEN = ("node21", "node22")
KVM = "node01"
HOSTS = (KVM, *XEN)


def machine(name: str) -> t.Any:
    """As everywhere; connections to HostOSes, which are slow to make there, are shared."""
    shared = f"-o ControlMaster=auto -o ControlPersist=60 -o ControlPath={_sockets()}/%h"
    return scenario.machine(name, *[shared] if name in HOSTS else [])


@functools.cache
def _sockets() -> pathlib.Path:
    """A folder with a short path for the sockets of shared connections."""
    return pathlib.Path(tempfile.mkdtemp(prefix="oscarv-xen-"))


@pytest.fixture(scope="session", autouse=True)
def _closed() -> t.Iterator[None]:
    """End shared connections with the tests."""
    yield
    for path in _sockets().iterdir():
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={path}", "any"], check=False, capture_output=True)
    shutil.rmtree(_sockets())


def answers(name: str, seconds: float = 900) -> None:
    """Wait until a guest answers over ssh. `migrate` does not, and an emulated guest takes minutes to boot."""
    begin = time.monotonic()
    while not _answers(name):
        assert time.monotonic() < begin + seconds, f"{name} did not answer within {seconds:g} s"
        time.sleep(2)
    note(f"{time.monotonic() - begin:.0f} s: {name} answers")


def _answers(name: str) -> bool:
    try:
        return machine(name).run("true").rc == 0
    except RuntimeError:  # ssh got no connection
        return False


def becomes(true: t.Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(1)
    return True


class Counter:
    """Receives what role demo_worker's counter in a guest sends: "BOOT_ID PID NUMBER", one datagram a tick."""

    address = ("10.88.41.1", 9943)

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str, int]] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.settimeout(0.5)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                boot, pid, number = self.socket.recv(200).decode().split()
            except TimeoutError:
                continue
            self.seen.append((time.monotonic(), boot, pid, int(number)))

    def wait(self, ticks: int, seconds: float = 60) -> None:
        """Until so many more ticks have come."""
        want, end = len(self.seen) + ticks, time.monotonic() + seconds
        while len(self.seen) < want:
            assert time.monotonic() < end, f"{len(self.seen)} ticks came; {ticks} more were expected in {seconds:g} s"
            time.sleep(0.1)

    def close(self) -> float:
        """One process of one boot counted on; seconds of the longest silence."""
        self.stop.set()
        self.thread.join()
        self.socket.close()
        assert len({(boot, pid) for _at, boot, pid, _number in self.seen}) == 1, "it was started anew"
        numbers = [number for *_rest, number in self.seen]
        assert numbers == sorted(set(numbers))
        times = [at for at, *_rest in self.seen]
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(params=XEN)
def xen(request: pytest.FixtureRequest) -> t.Any:
    return machine(request.param)


def running() -> dict[str, list[str]]:
    """Guest -> the HostOSes on which it runs; Xen itself and the processes are asked, not libvirt."""
    found: dict[str, list[str]] = {}
    for name in XEN:
        for line in machine(name).check_output("xl list").splitlines()[1:]:
            guest = line.split()[0]
            if guest not in ("Domain-0", "(null)"):
                found.setdefault(guest, []).append(name)
    text = machine(KVM).check_output("ps -eo args --no-headers -ww")
    for guest in re.findall(r"^\S*qemu-system-\S+ -name guest=([^,]+),", text, re.M):
        found.setdefault(guest, []).append(KVM)
    return found
