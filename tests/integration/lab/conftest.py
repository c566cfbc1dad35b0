# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real lab on this machine (root), called t-lab, on networks that no other suite uses."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
#: Without a cache, for the tests of builds; pytest's own folders have too long names.
OTHER_DIR = pathlib.Path("/var/tmp/t-lab")
PROGRAM = ROOT / "roles/lab/files"
LAB_DIR = pathlib.Path("/var/lib/oscarv-lab")  # the role's default: root file systems are shared with other labs
MARKER = "# Written by role oscarv.virt.lab for lab {}: removed with it, do not edit"
sys.path.insert(0, str(PROGRAM))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: too slow for CI; `make test-long` runs it")


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("the lab's tests make real machines: run them as root")


@dataclasses.dataclass
class Run:
    """An ansible-playbook run: exit code, all it said, what the lab's program did and the counts of the recap."""

    code: int
    text: str
    actions: list[str]
    recap: dict[str, int]


@dataclasses.dataclass
class LabUnderTest:
    name: str
    subnet: str
    inventory: pathlib.Path

    def variables(self, **more: t.Any) -> list[str]:
        base = {"lab_name": self.name, "lab_subnet": self.subnet, "lab_inventory_dir": str(self.inventory)}
        return ["-e", json.dumps({**base, **more})]

    def start(self, *arguments: str, **variables: t.Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ROOT / ".venv/bin/ansible-playbook"), "oscarv.virt.lab", *self.variables(**variables), *arguments],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, *arguments: str, **variables: t.Any) -> Run:
        return finish(self.start(*arguments, **variables))

    def up(self, *arguments: str, **variables: t.Any) -> Run:
        run = self.play(*arguments, **variables)
        assert run.code == 0, run.text
        return run

    def down(self, *arguments: str, **variables: t.Any) -> Run:
        return self.up(*arguments, lab_state="absent", **variables)

    def ansible(self, pattern: str, module: str, arguments: str = "") -> str:
        """Run a module through the inventory that the lab wrote, and nothing else."""
        command = [str(ROOT / ".venv/bin/ansible"), "-i", str(self.inventory), pattern, "-m", module, "-a", arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begin(self, verb: str, *arguments: str, **variables: t.Any) -> subprocess.Popen[str]:
        """Start the role's program alone, with the role's defaults: seconds quicker than a play."""
        defaults = yaml.safe_load((ROOT / "roles/lab/defaults/main.yml").read_text())
        wish = {key.removeprefix("lab_"): value for key, value in defaults.items() if key != "lab_state"}
        wish |= {"name": self.name, "subnet": self.subnet, "inventory": str(self.inventory / "hosts.yml")}
        wish |= {"marker": MARKER.format(self.name), **variables}
        process = subprocess.Popen(
            ["/usr/bin/python3", "-B", "-m", "oscarv_lab", verb, *arguments],
            env={**os.environ, "PYTHONPATH": str(PROGRAM)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        process.stdin.write(json.dumps(wish))
        process.stdin.close()
        process.stdin = None
        return process

    def program(self, verb: str, *arguments: str, **variables: t.Any) -> list[str]:
        """Run the program; what it did. AssertionError with what it said where it fails."""
        process = self.begin(verb, *arguments, **variables)
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        return list(json.loads(out)["actions"])

    def ssh(self, host: str, command: str, tries: int = 1) -> str:
        """Run a command on a HostOS with the lab's key, its host key verified."""
        keys = self.directory / "ssh"
        address = json.loads((self.directory / "lab.json").read_text())["hosts"][host]["address"]
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={keys}/known_hosts"]
        words = [
            "ssh",
            "-i",
            f"{keys}/id_ed25519",
            *(y for x in options for y in ("-o", x)),
            f"root@{address}",
            command,
        ]
        for _try in range(tries):
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
            if done.returncode != 255:  # ssh's own
                break
            time.sleep(0.5)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    @property
    def directory(self) -> pathlib.Path:
        return LAB_DIR / "labs" / self.name

    def process(self, host: str) -> int:
        return int(json.loads((self.directory / "hosts" / host / "process.json").read_text())["pid"])

    def traces(self) -> dict[str, list[str]]:
        """Everything on this machine that has to do with this lab. Empty lists after a removal."""
        me = re.compile(rf"\b(?:lab-|vb-|oscarv-lab-)?{self.name}\b")
        mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
        links, tables = said("ip", "-o", "link").splitlines(), said("nft", "list", "tables").splitlines()
        commands = [command_line(int(x.name)) for x in pathlib.Path("/proc").glob("[0-9]*")]
        groups = pathlib.Path("/sys/fs/cgroup").glob(f"**/oscarv-lab/{self.name}")
        files = [self.directory, self.inventory / "hosts.yml"]
        files += pathlib.Path("/run/systemd/nspawn").glob(f"*/{self.name}-*")
        state = pathlib.Path("/run/oscarv-lab/sysctl.json")
        return {
            "processes": [x for x in commands if str(self.directory) in x],
            "mounts": [x for x in mounts if str(self.directory) in x],
            "links": [x for x in links if me.search(x)],
            "tables": [x for x in tables if me.search(x)],
            "groups": [str(x) for x in groups],
            "files": [str(x) for x in files if x.exists()],
            "sysctls": [str(state)] if state.exists() and str(self.directory) in state.read_text() else [],
        }


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def command_line(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # ended meanwhile


def descendants(pid: int) -> set[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, todo = set(), [pid]
    while todo:
        found.add(todo[-1])
        todo += children.get(todo.pop(), [])
    return found


def v1_controllers() -> list[pathlib.Path]:
    """Where controllers of cgroup v1 stand, here and in a HostOS; none on a machine with v2, where all is writable."""
    return [x for x in (pathlib.Path("/sys/fs/cgroup", y) for y in ("cpu", "memory", "devices")) if x.exists()]


def finish(process: subprocess.Popen[str]) -> Run:
    text, _none = process.communicate(timeout=600)
    said = re.findall(r"Say what was done\] \*+\nok: \[localhost\] => (\{.*?\n\})", text, re.S)
    counts = re.search(r"localhost\s+: (.*)", text)
    recap = {k: int(v) for k, v in (x.split("=") for x in counts[1].split())} if counts else {}
    return Run(process.returncode, text, [y for x in said for y in json.loads(x)["msg"]], recap)


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> t.Iterator[LabUnderTest]:
    """A lab of this suite's own, gone before and after each test."""
    yield from _cleared(LabUnderTest("t-lab", "10.88.1.0/24", tmp_path / "inventory"))


@pytest.fixture
def neighbour(tmp_path: pathlib.Path) -> t.Iterator[LabUnderTest]:
    yield from _cleared(LabUnderTest("t-lab2", "10.88.2.0/24", tmp_path / "neighbour"))


def _cleared(lab: LabUnderTest) -> t.Iterator[LabUnderTest]:
    lab.program("down", dir=str(OTHER_DIR), keep_cache=False)  # of a test that was cut off
    lab.program("down")
    assert not any(lab.traces().values()), lab.traces()
    yield lab
    lab.program("down")
    assert not any(lab.traces().values()), lab.traces()
