# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of a build: whoever is killed, no process and no mount stays behind."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
#: What runs in a process of its own. argv: mark (a word to find processes by), folder, and what the work does.
PROGRAM = """
import os, subprocess, sys, time
sys.path.insert(0, {collections!r})
from ansible_collections.oscarv.virt.plugins.module_utils import _image_sandbox as sandbox
mark, folder, what = sys.argv[1:]

def long():
    sandbox.mount("-t", "tmpfs", mark, folder)
    # Daemons that run away from their session must end too.
    for _ in range(3):
        subprocess.Popen(["setsid", "sleep", "1234"], cwd=folder)
    subprocess.run(["sh", "-c", "echo ready; exec sleep 1234"], cwd=folder)

def quick():
    subprocess.Popen(["setsid", "sleep", "1234"], cwd=folder)
    sandbox.end_all_others()
    names = os.listdir("/proc")
    return {{"pid": os.getpid(), "processes": sorted(int(n) for n in names if n.isdigit()), "host": os.uname().nodename,
            "comm": open("/proc/1/comm").read().strip()}}

def refuse():
    raise sandbox.BuildError("no more eggs")

def crash():
    return 1 // 0

def vanish():
    os._exit(3)

watch = sandbox.Watch([int(pid) for pid in os.environ.get("WATCHED", "").split()])
work = {{"long": long, "quick": quick, "refuse": refuse, "crash": crash, "vanish": vanish}}[what]
try:
    print("RESULT", sandbox.run(work, watch, folder + "/log"), flush=True)
except sandbox.BuildError as error:
    print("ERROR", error, flush=True)
except sandbox.Abandoned as error:
    os.write(2, f"ABANDONED {{error}}\\n".encode())
""".format(collections=str(ROOT / ".build" / "collections"))


class Sandbox:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.mark = f"oscarv-test-{os.getpid()}-{time.monotonic_ns()}"

    def command(self, what: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM, self.mark, str(self.folder), what]

    def run(self, what: str) -> str:
        return subprocess.run(self.command(what), capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def processes(self) -> list[int]:
        """Everything that has our mark, or works in our folder."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (path / "cmdline").read_bytes()
                if marked or (path / "cwd").readlink() == self.folder:
                    found.append(int(path.name))
            except OSError:
                continue  # ended meanwhile
        return sorted(found)

    def wait_ready(self) -> None:
        end = time.monotonic() + 30
        log = self.folder / "log"
        while not (log.exists() and "ready" in log.read_text()):
            assert time.monotonic() < end
            time.sleep(0.02)

    def wait_gone(self) -> None:
        end = time.monotonic() + 5
        while self.processes():
            assert time.monotonic() < end, [
                pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in self.processes()
            ]
            time.sleep(0.02)
        assert self.mark not in pathlib.Path("/proc/self/mounts").read_text()


@pytest.fixture
def sandbox(tmp_path: pathlib.Path) -> t.Iterator[Sandbox]:
    made = Sandbox(tmp_path)
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def test_work_is_the_first_process_and_sees_nobody_else(sandbox: Sandbox) -> None:
    # PID 1 itself, and the only one left: the daemon was ended.
    assert sandbox.run("quick") == "RESULT {'pid': 1, 'processes': [1], 'host': 'localhost', 'comm': 'init'}"
    assert os.uname().nodename != "localhost"


def test_what_went_wrong_is_said(sandbox: Sandbox) -> None:
    assert sandbox.run("refuse") == "ERROR no more eggs"
    assert "ZeroDivisionError" in sandbox.run("crash")
    assert sandbox.run("vanish") == "ERROR the build was killed from outside (out of memory?)"


def test_killed_processes_leave_nothing(sandbox: Sandbox) -> None:
    """The module, the keeper between, the work itself: each killed once."""
    for victim in range(3):
        (sandbox.folder / "log").unlink(missing_ok=True)
        with subprocess.Popen(sandbox.command("long"), stdout=subprocess.PIPE, text=True) as module:
            sandbox.wait_ready()
            marked = sandbox.processes()
            assert len(marked) == 7, "module, keeper, work, three daemons and a shell"
            assert sandbox.mark not in pathlib.Path("/proc/self/mounts").read_text(), "a mount is seen outside"
            os.kill(marked[victim], signal.SIGKILL)
            sandbox.wait_gone()
            said = module.stdout.read() if module.stdout else ""
        assert (victim == 0) == (module.returncode != 0)
        assert said.strip() == ("" if victim == 0 else "ERROR the build was killed from outside (out of memory?)")


def test_ends_when_its_parent_is_killed(sandbox: Sandbox) -> None:
    parent = subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *sandbox.command("long")], stdout=subprocess.PIPE)
    sandbox.wait_ready()
    parent.kill()
    parent.wait()
    sandbox.wait_gone()


def test_ends_when_a_watched_ancestor_is_killed(sandbox: Sandbox) -> None:
    inner = ["sh", "-c", '"$@"; true', "sh", *sandbox.command("long")]
    outer = subprocess.Popen(
        ["sh", "-c", 'export WATCHED=$$; "$@"; true', "sh", *inner], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    sandbox.wait_ready()
    outer.kill()
    outer.wait()
    sandbox.wait_gone()


def test_a_process_that_is_no_ancestor_is_not_watched(sandbox: Sandbox) -> None:
    with subprocess.Popen(["sleep", "1234"]) as stranger:
        environment = {**os.environ, "WATCHED": str(stranger.pid)}
        with subprocess.Popen(sandbox.command("long"), stdout=subprocess.PIPE, env=environment) as module:
            sandbox.wait_ready()
            stranger.kill()
            stranger.wait()
            time.sleep(1)
            assert module.poll() is None and len(sandbox.processes()) == 7
            module.kill()
    sandbox.wait_gone()


def test_ends_when_nobody_reads_its_result(sandbox: Sandbox) -> None:
    with subprocess.Popen(sandbox.command("long"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as module:
        sandbox.wait_ready()
        assert module.stdout and module.stderr
        module.stdout.close()
        sandbox.wait_gone()
        assert module.stderr.read() == "ABANDONED ansible is gone\n"
