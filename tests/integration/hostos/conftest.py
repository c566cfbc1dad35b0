# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab (t-hos, root) for all tests of this folder: node01 is bookworm, node02 is trixie."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import typing as t

import pytest
import yaml
from pinger import Pinger

ROOT = pathlib.Path(__file__).resolve().parents[3]
NAME, SUBNET = "t-hos", "10.88.7.0/24"
SUITES = {"node01": "bookworm", "node02": "trixie"}
DEFINITION = """
plugin: oscarv.virt.cluster
cluster: thos
networks:
  compute: {bridge: br0, ranges: [10.88.7.0/24], gateway: 10.88.7.1, reserved: [10.88.7.1-10.88.7.99]}
partitions:
  kvmhosts: {hypervisor: kvm, members: "node[01:02]"}
"""


@dataclasses.dataclass
class Run:
    """An ansible-playbook run: exit code, all it said, seconds, and the recap's counts by host."""

    code: int
    text: str
    seconds: float
    recap: dict[str, dict[str, int]]

    def ok(self) -> Run:
        assert self.code == 0, self.text
        return self

    def changed(self) -> dict[str, int]:
        return {host: counts["changed"] for host, counts in self.recap.items() if host != "localhost"}


@dataclasses.dataclass
class HostOSes:
    folder: pathlib.Path  #: inventory and definition

    def playbook(self, name: str, *arguments: str, **variables: t.Any) -> Run:
        """One of the collection's, or a file."""
        book = name if name.startswith("/") else f"oscarv.virt.{name}"
        command = [str(ROOT / ".venv/bin/ansible-playbook"), book, "-i", str(self.folder)]
        command += [*arguments, "-e", json.dumps(variables)]
        started = time.monotonic()
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        recap = {
            host: {key: int(value) for key, value in (word.split("=") for word in counts.split())}
            for host, counts in re.findall(r"^(\S+)\s+: (ok=.*)$", done.stdout, re.MULTILINE)
        }
        return Run(done.returncode, done.stdout, time.monotonic() - started, recap)

    def hostos(self, *arguments: str, **variables: t.Any) -> Run:
        return self.playbook("hostos", *arguments, **variables)

    def lab(self, state: str) -> None:
        wish = {"lab_name": NAME, "lab_subnet": SUBNET, "lab_inventory_dir": str(self.folder), "lab_state": state}
        hosts = [{"name": name, "suite": suite} for name, suite in SUITES.items()]
        self.playbook("lab", lab_hosts=hosts, **wish).ok()

    def inventory(self) -> dict[str, t.Any]:
        read: dict[str, t.Any] = yaml.safe_load((self.folder / "hosts.yml").read_text())
        return t.cast("dict[str, t.Any]", read["all"]["children"]["oscarv_lab"])

    def address(self, host: str) -> str:
        return str(self.inventory()["hosts"][host]["ansible_host"])

    def ssh_command(self, host: str) -> list[str]:
        variables = self.inventory()["vars"]
        words = [
            "ssh",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=5",
            "-i",
            variables["ansible_ssh_private_key_file"],
        ]
        return [*words, *variables["ansible_ssh_common_args"].split(), f"root@{self.address(host)}"]

    def ssh(self, host: str, script: str, *, code: int | None = 0) -> str:
        """Run a shell script on a HostOS; `code` None: any exit code will do."""
        done = subprocess.run(
            [*self.ssh_command(host), "bash -s"], input=script, capture_output=True, text=True, timeout=180, check=False
        )
        assert code is None or done.returncode == code, f"{host}: {done.returncode}: {done.stdout}{done.stderr}"
        return (done.stdout + done.stderr).strip()

    def wait_for(self, host: str, boot_before: str) -> None:
        """Until the HostOS has booted again and answers."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            said = self.ssh(host, "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running --wait", code=None)
            if said and boot_before not in said and re.search(r"running|degraded", said):
                return
            time.sleep(1)
        pytest.fail(f"{host} did not come back after its restart")


@dataclasses.dataclass
class Watch:
    """An open ssh session and pings to a HostOS through a test."""

    pinger: Pinger
    session: subprocess.Popen[str]
    lines: list[str]

    def end(self) -> None:
        self.pinger.stop()
        self.session.terminate()
        self.session.wait()


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("these tests make real machines: run them as root")


@pytest.fixture(scope="session")
def hostoses(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[HostOSes]:
    """Fresh machines; what the tests of this folder do to them adds up, in the order of the file."""
    machines = HostOSes(tmp_path_factory.mktemp("t-hos"))
    (machines.folder / "thos.oscarv.yml").write_text(DEFINITION)
    machines.lab("absent")
    machines.lab("present")
    yield machines
    machines.lab("absent")


@pytest.fixture
def watch(hostoses: HostOSes) -> t.Iterator[t.Callable[[str], Watch]]:
    watches: list[Watch] = []

    def begin(host: str) -> Watch:
        command = [*hostoses.ssh_command(host), "while sleep 0.05; do echo x; done"]
        session = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines: list[str] = []
        stream = t.cast(t.IO[str], session.stdout)
        threading.Thread(target=lambda: lines.extend(iter(stream.readline, "")), daemon=True).start()
        watches.append(Watch(Pinger(hostoses.address(host)), session, lines))
        return watches[-1]

    yield begin
    for one in watches:
        one.end()
