# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by test_lab.py as PID 1 of namespaces of its own: kills the lab's program at many moments.

After each kill a removal must bring back exactly what was before, or a second run must complete the lab.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

PROGRAM = sys.argv[1]
LAB = pathlib.Path("/var/lib/oscarv-lab/labs/t-sweep")
FORWARD = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
WISH = {
    "name": "t-sweep",
    "dir": "/var/lib/oscarv-lab",
    "subnet": "10.88.1.0/24",
    "hosts": 2,
    "suite": "bookworm",
    "capacity": {"vcpus": 1, "memory": "1 GiB", "disk": "1 GiB"},
    "sources": [],
    "packages": [],
    "nameservers": ["10.88.1.1"],
    "wait_timeout": 60,
    "remove_hosts": False,
    "keep_cache": True,
    "inventory": "/var/lib/oscarv-lab/labs/t-sweep/hosts.yml",
    "marker": "none",
}


def program(verb: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["/usr/bin/python3", "-B", "-m", "oscarv_lab", verb],
        env={**os.environ, "PYTHONPATH": PROGRAM},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(WISH))
        process.stdin.close()
    process.stdin = None
    return process


def whole(verb: str) -> list[str]:
    process = program(verb)
    out, _none = process.communicate(timeout=90)
    assert process.returncode == 0, f"{verb} failed with {process.returncode}"
    return list(json.loads(out)["actions"])


def killed(verb: str, after: float) -> bool:
    """Whether the program was still at it when it was killed."""
    process = program(verb)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def bury() -> None:
    """As PID 1 we inherit what the killed program started."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def traces() -> dict[str, object]:
    bury()
    return {
        "processes": sorted(x.name for x in pathlib.Path("/proc").glob("[0-9]*")),
        "links": said("ip", "-o", "link"),
        "tables": said("nft", "list", "ruleset"),
        "mounts": pathlib.Path("/proc/self/mounts").read_text(),
        "forward": FORWARD.read_text(),
        "groups": sorted(str(x) for x in pathlib.Path("/sys/fs/cgroup").glob("**/oscarv-lab/t-sweep*")),
        "files": sorted(str(x) for y in (LAB, pathlib.Path("/run")) for x in (y, *y.rglob("*")) if x.exists()),
    }


def settle(before: dict[str, object], moment: str) -> None:
    """All is as before, at the latest when the kernel has taken the last network namespace down."""
    deadline = time.monotonic() + 10
    while (now := traces()) != before:
        if time.monotonic() > deadline:
            differs = {key: (before[key], now[key]) for key in before if before[key] != now[key]}
            sys.exit(f"{moment}: before and after differ: {differs}")
        time.sleep(0.05)


def main() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for folder in ("mount", "systemd"):  # there on every machine; mount and nspawn make them where they are not
        pathlib.Path("/run", folder).mkdir()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    FORWARD.write_text("0")
    whole("down")  # what a sweep that was cut off left
    before = traces()
    began = time.monotonic()
    assert whole("up")
    took = time.monotonic() - began
    assert FORWARD.read_text() == "1\n"
    assert whole("up") == []
    began = time.monotonic()
    assert whole("down")
    down_took = time.monotonic() - began
    settle(before, "no kill")

    kills = 0
    steps = 8
    for step in range(steps):
        moment = took * (step + 0.5) / steps
        kills += killed("up", moment)
        whole("down")
        settle(before, f"up killed after {moment:.2f} s of {took:.2f} s, then down")
    for step in range(steps):
        moment = took * (step + 0.5) / steps
        kills += killed("up", moment)
        whole("up")
        again = whole("up")
        assert again == [], f"up killed after {moment:.2f} s, twice up again: {again}"
        moment = down_took * (step + 0.5) / steps
        kills += killed("down", moment)
        if step % 2:  # somebody may as well want it back
            whole("up")
            again = whole("up")
            assert again == [], f"down killed after {moment:.2f} s, twice up: {again}"
        whole("down")
        settle(before, f"down killed after {moment:.2f} s of {down_took:.2f} s, then down")
    json.dump({"killed": kills, "up": took, "down": down_took}, sys.stdout)


main()
