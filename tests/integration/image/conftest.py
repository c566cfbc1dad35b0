# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A builder on this machine (root) with a store of the tests' own, and what a killed build would leave behind."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
#: A file system with room: /tmp may be a small tmpfs.
WORK = pathlib.Path("/var/tmp")


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("images are built as root: run these tests as root")


@dataclasses.dataclass
class Run:
    """An ansible-playbook run: exit code, all it said, how long it took and the counts of the recap."""

    code: int
    text: str
    seconds: float

    @property
    def recap(self) -> dict[str, int]:
        counts = re.search(r"localhost\s+: (.*)", self.text)
        return {k: int(v) for k, v in (x.split("=") for x in counts[1].split())} if counts else {}

    def ok(self) -> Run:
        assert self.code == 0, self.text
        return self


class Builder:
    """A definition, its roles, an inventory with this machine as builder, and a store, in a folder that goes away."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.inventory = folder / "inventory"
        self.roles = folder / "roles"
        self.inventory.mkdir(parents=True)
        self.variables: dict[str, t.Any] = {"image_store": str(self.store)}

    def define(self, **images: dict[str, t.Any]) -> None:
        definition = {"plugin": "oscarv.virt.cluster", "cluster": "imagetest", "images": images}
        (self.inventory / "test.oscarv.yml").write_text(yaml.safe_dump(definition))
        builder = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3", **self.variables}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump({"oscarv_builder": {"hosts": {"localhost": builder}}}))

    def role(self, name: str, tasks: list[dict[str, t.Any]], **files: str) -> None:
        for path, text in {"tasks/main.yml": yaml.safe_dump(tasks), **files}.items():
            target = self.roles / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ROOT / ".venv/bin/ansible-playbook"), "oscarv.virt.image", "-i", str(self.inventory), *arguments],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, *arguments: str) -> Run:
        begin = time.monotonic()
        process = self.start(*arguments)
        try:
            text, _none = process.communicate(timeout=900)
        finally:
            process.kill()
        return Run(process.returncode, text, time.monotonic() - begin)

    def images(self) -> list[pathlib.Path]:
        """What looks like a finished image."""
        return [path for path in self.entries() if re.fullmatch(r"[0-9a-f]{64}", path.name)]

    def entries(self) -> list[pathlib.Path]:
        return sorted(self.store.iterdir()) if self.store.exists() else []

    def temporary(self) -> list[pathlib.Path]:
        return [path for path in self.entries() if path.name.startswith(".tmp.")]

    def log(self) -> str:
        logs = sorted(self.store.glob(".log.*"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_text(errors="replace") if logs else ""

    def traces(self) -> dict[str, list[str]]:
        """Processes and mounts that belong to builds in this store; the module is known by the lock that it holds."""
        return {
            "modules": [str(pid) for pid in holders(f"{self.store}/.lock.")],
            "processes": [
                line for line in map(_about, pathlib.Path("/proc").glob("[0-9]*")) if str(self.store) in line
            ],
            "mounts": [
                line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(self.store) in line
            ],
        }

    def forget_logs(self) -> None:
        """What is waited for next is of a build that begins now."""
        for path in self.store.glob(".log.*"):
            path.unlink()

    def wait_for_log(self, words: str, timeout: float = 300) -> None:
        end = time.monotonic() + timeout
        while words not in self.log():
            assert time.monotonic() < end, f"{words!r} does not appear in the log:\n{self.log()[-3000:]}"
            time.sleep(0.1)

    def wait_for_silence(self, timeout: float = 60) -> None:
        """Until nothing of a build is left, which must not take long."""
        end = time.monotonic() + timeout
        while any(self.traces().values()):
            assert time.monotonic() < end, self.traces()
            time.sleep(0.1)

    def manifest(self, image: pathlib.Path) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads((image / "manifest.json").read_text()))


def holders(prefix: str) -> list[int]:
    """Processes that have a file open whose path begins so."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            entries = list((process / "fd").iterdir())
        except OSError:
            continue  # ended meanwhile
        if any(_target(entry).startswith(prefix) for entry in entries):
            found.add(int(process.name))
    return sorted(found)


def _target(link: pathlib.Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed meanwhile


def _about(process: pathlib.Path) -> str:
    """Command line, root and working directory of a process; of the tests themselves nothing."""
    if int(process.name) in (os.getpid(), os.getppid()):
        return ""
    try:
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"{words} root={(process / 'root').readlink()} cwd={(process / 'cwd').readlink()}"
    except OSError:
        return ""  # ended meanwhile


@pytest.fixture(scope="session")
def workshop() -> t.Iterator[pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="oscarv-image-test.", dir=WORK))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def builder(workshop: pathlib.Path, request: pytest.FixtureRequest) -> t.Iterator[Builder]:
    """An empty store for one test."""
    made = Builder(workshop / re.sub(r"\W+", "-", request.node.name)[:60])
    yield made
    assert not any(made.traces().values()), made.traces()
    shutil.rmtree(made.folder)
