# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A definition and its ledger in a folder, and Ansible run on them as a user does."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = "a" * 64


class Run(t.NamedTuple):
    """A finished ansible-playbook."""

    code: int
    text: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        found = re.findall(r"^(\S+)\s+: (ok=.*)$", self.text.rsplit("PLAY RECAP", 1)[-1], re.M)
        return {host: {k: int(v) for k, v in (w.split("=") for w in counts.split())} for host, counts in found}

    @property
    def changed(self) -> dict[str, int]:
        """By HostOS; localhost only looks whether there is a cluster."""
        return {host: counts["changed"] for host, counts in self.recap.items() if host != "localhost"}

    def ok(self) -> Run:
        assert self.code == 0, self.text
        return self

    def fails(self, *words: str) -> Run:
        assert self.code != 0, self.text
        for word in words:
            assert word in self.text, (word, self.text)
        return self


class Folder:
    """An inventory folder: definition, how HostOSes are reached, ledger."""

    def __init__(self, path: pathlib.Path, definition: dict[str, t.Any]) -> None:
        self.path = path
        self.data = definition
        self.write()

    def write(self) -> None:
        (self.path / "t.oscarv.yml").write_text(yaml.safe_dump(self.data, sort_keys=False))

    @property
    def workers(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.data["partitions"]["workers"])

    def command(self, playbook: str, *arguments: str) -> list[str]:
        program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
        return [program, playbook, "-i", str(self.path), *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}

    def playbook(self, playbook: str, *arguments: str, timeout: int = 900) -> Run:
        done = subprocess.run(
            self.command(playbook, *arguments),
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def tasks(self, *tasks: dict[str, t.Any], arguments: t.Sequence[str] = ()) -> Run:
        """Run tasks once in a play of the HostOSes."""
        return self.playbook(str(self.write_play(*tasks)), *arguments)

    def write_play(self, *tasks: dict[str, t.Any]) -> pathlib.Path:
        path = self.path.parent / f"{self.path.name}-play.yml"
        every = [{"run_once": True, **task} for task in tasks]
        path.write_text(yaml.safe_dump([{"hosts": "oscarv_hostos", "gather_facts": False, "tasks": every}]))
        return path

    def result(self, action: str, arguments: dict[str, t.Any], *more: str) -> dict[str, t.Any]:
        """The plain result of one action."""
        out = self.path.parent / f"{self.path.name}-result.json"
        copy = {"content": "{{ r | to_json }}", "dest": str(out)}
        self.tasks(
            {f"oscarv.virt.{action}": arguments, "register": "r"},
            {"ansible.builtin.copy": copy, "delegate_to": "localhost", "check_mode": False},
            arguments=more,
        ).ok()
        read: dict[str, t.Any] = json.loads(out.read_text())
        return read

    def record_build(self, build_id: str = BUILD, **more: t.Any) -> None:
        build = {"build_id": build_id, "image": "deb", "recipe_id": "r", "size": 10, "virtual_size": 100, **more}
        self.tasks({"oscarv.virt.ledger": {"operation": "record_build", "build": build}}).ok()


DEFINITION: dict[str, t.Any] = {
    "plugin": "oscarv.virt.cluster",
    "cluster": "tact",
    "networks": {"lan": {"bridge": "br0", "ranges": "10.0.4.0/24", "gateway": "10.0.4.1"}},
    "partitions": {
        "hosts": {
            "hypervisor": "kvm",
            "members": "node[1:2]",
            "capacity": {"vcpus": 8, "memory": "8 GiB", "disk": "100 GiB"},
        },
        "workers": {
            "image": "deb",
            "members": "wn[1:3]",
            "on": "hosts",
            "vcpus": 1,
            "memory": "1 GiB",
            "disk": "10 GiB",
            "networks": ["lan"],
        },
    },
    "images": {"deb": {"builder": "debian", "release": "bookworm"}},
}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    (tmp_path / "inv").mkdir()
    return Folder(tmp_path / "inv", yaml.safe_load(yaml.safe_dump(DEFINITION)))
