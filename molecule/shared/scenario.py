# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario's cluster as its tests see and change it, whatever the hypervisor. tools/molecule makes the folder."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import time
import typing as t

import testinfra
import yaml

TOP = pathlib.Path(os.environ["OSCARV_TOP"])
FOLDER = pathlib.Path(os.environ["OSCARV_SCENARIO"])


class Failed(AssertionError):
    """A playbook ended with an error that the test did not expect; holds what it printed."""


def note(text: str) -> None:
    """A line in plays.txt, which tells where a run's time went."""
    with (FOLDER / "plays.txt").open("a") as log:
        log.write(f"{time.strftime('%T')} {text}\n")


class Cluster:
    """The inventory folder, the definition in it, and the playbooks."""

    def __init__(self) -> None:
        (self.definition,) = FOLDER.glob("*.oscarv.yml")

    def read(self) -> dict[str, t.Any]:
        data = yaml.safe_load(self.definition.read_text())
        for partition in data["partitions"].values():
            if True in partition:  # PyYAML's reading of a bare `on`
                partition["on"] = partition.pop(True)
        return data

    def write(self, data: dict[str, t.Any]) -> None:
        self.definition.write_text(yaml.safe_dump(data, sort_keys=False))

    def change(self, name: str = "workers", **keys: t.Any) -> None:
        """Set keys of a partition; None takes a key away."""
        data = self.read()
        partition = {**data["partitions"][name], **keys}
        data["partitions"][name] = {key: value for key, value in partition.items() if value is not None}
        self.write(data)

    def command(self, name: str, *arguments: str) -> list[str]:
        return ["ansible-playbook", f"oscarv.virt.{name}", "-i", str(FOLDER), *arguments]

    def play(self, name: str, *arguments: str, fails: bool = False) -> str:
        """Run a playbook to its end; return what it printed."""
        begin = time.monotonic()
        done = subprocess.run(self.command(name, *arguments), cwd=TOP, check=False, capture_output=True, text=True)
        note(f"{time.monotonic() - begin:.0f} s: {shlex.join([name, *arguments])}: {done.returncode}")
        text = done.stdout + done.stderr
        if (done.returncode != 0) != fails:
            raise Failed(f"oscarv.virt.{name} {arguments} ended with {done.returncode}:\n{text[-6000:]}")
        return text

    def kill(self, name: str, *arguments: str, when: t.Callable[[], bool], within: float = 120) -> None:
        """Start a playbook, kill -9 it and all its children when `when()` is true."""
        child = subprocess.Popen(
            self.command(name, *arguments),
            cwd=TOP,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + within
        try:
            while not when():
                assert child.poll() is None, (
                    f"oscarv.virt.{name} had ended with {child.returncode} before it was killed"
                )
                assert time.monotonic() < end, f"oscarv.virt.{name}: the moment to kill it did not come in {within} s"
                time.sleep(0.02)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def variables(self) -> dict[str, dict[str, t.Any]]:
        """Of every machine in the inventory."""
        done = subprocess.run(
            ["ansible-inventory", "-i", str(FOLDER), "--list"], cwd=TOP, check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout)["_meta"]["hostvars"]

    def guests(self) -> dict[str, dict[str, t.Any]]:
        return {name: vars_ for name, vars_ in self.variables().items() if "oscarv_uuid" in vars_}

    def identity(self, name: str, guest: t.Any) -> dict[str, t.Any]:
        """What nothing may change as long as a guest exists; `guest`: as testinfra has it."""
        variables = self.guests()[name]
        kept = {key: variables[key] for key in ("ansible_host", "oscarv_uuid", "oscarv_host_key")}
        return {**kept, "mac": guest.check_output("cat /sys/class/net/eth0/address")}


def machine(name: str, *options: str) -> t.Any:
    """A HostOS or guest as testinfra has it, reached the way the inventory says; `options`: more for ssh.

    testinfra's own reading of an inventory does not see guests that came after the first look, and to go through
    Ansible costs seconds a command.
    """
    variables = _variables(name)
    words = [variables.get("ansible_ssh_common_args"), variables.get("ansible_ssh_extra_args"), *options]
    return testinfra.get_host(
        f"ssh://root@{variables['ansible_host']}",
        ssh_identity_file=variables["ansible_ssh_private_key_file"],
        ssh_extra_args=" ".join(filter(None, words)),
        controlpersist=0,  # a connection that is kept would hang on where a guest was
        timeout=60,
    )


def _variables(name: str) -> dict[str, t.Any]:
    """What the inventory says of a machine; asked again when a machine is new to us."""
    if "ansible_host" not in _known.get(name, {}):
        _known.clear()
        _known.update(Cluster().variables())
    return _known[name]


_known: dict[str, dict[str, t.Any]] = {}


def write_data(guest: t.Any) -> None:
    """Leave something on a guest's root disk."""
    guest.check_output("sh -c 'echo kept > /root/data; sync'")


def has_data(guest: t.Any) -> bool:
    """Whether what `write_data` left is there, whole."""
    left = guest.file("/root/data")
    return left.exists and left.content_string == "kept\n"


def changed(text: str) -> dict[str, int]:
    """The recap's `changed=` of every host."""
    recap = re.sub(r"\x1b\[[0-9;]*m", "", text.rsplit("PLAY RECAP", 1)[1])  # molecule has Ansible colour it
    return {name: int(count) for name, count in re.findall(r"^(\S+)\s*:.*?changed=(\d+)", recap, re.M)}
