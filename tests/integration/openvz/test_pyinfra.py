# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations of pyinfra for vzctl, which nobody here wrote, drive the double: it does not fit our driver alone."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "unit/openvz"))

from vz_node import Node

#: `make venv-test` makes it.
PYINFRA = pathlib.Path(__file__).resolve().parents[3] / ".build/pyinfra/bin/pyinfra"

BEGIN = (
    "from pyinfra import host\nfrom pyinfra.facts.vzctl import OpenvzContainers\nfrom pyinfra.operations import vzctl\n"
)
UP = """
vzctl.create(name="create", ctid="301", template="tiny-1.0-x86_64")
vzctl.set(name="set", ctid="301", save=True, cpus=2, hostname="ct301", onboot="yes")
vzctl.start(name="start", ctid="301")
"""
FACT = """
for ctid, found in host.get_fact(OpenvzContainers).items():
    print("FACT", ctid, found["status"], found["hostname"], found["cpus"], found["onboot"])
"""
DOWN = """
vzctl.stop(name="stop", ctid="301")
vzctl.delete(name="delete", ctid="301")
"""


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Node:
    root = tmp_path / "node"
    root.mkdir()
    return Node(root)


def play(node: Node, text: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    (folder / "deploy.py").write_text(BEGIN + text)
    words = [str(PYINFRA), "@local", "deploy.py", "-y"]
    return subprocess.run(words, cwd=folder, env=node.environment, capture_output=True, text=True, check=False)


def listed(node: Node) -> list[dict[str, object]]:
    return list(json.loads(node.good("vzlist", "-a", "-j", "-o", "ctid,status,cpus,hostname,onboot")))


def test_create_set_start_read_stop_delete(node: Node, tmp_path: pathlib.Path) -> None:
    done = play(node, UP, tmp_path)
    assert done.returncode == 0, done
    wanted = {"ctid": 301, "status": "running", "cpus": 2, "hostname": "ct301", "onboot": True}
    assert listed(node) == [wanted]
    assert "FACT 301 running ct301 2 True" in play(node, FACT, tmp_path).stdout
    done = play(node, DOWN, tmp_path)
    assert done.returncode == 0, done
    assert listed(node) == []


def test_it_hears_of_the_doubles_refusals(node: Node, tmp_path: pathlib.Path) -> None:
    done = play(node, 'vzctl.start(name="start", ctid="301")\n', tmp_path)
    assert done.returncode != 0 and "Container config file does not exist" in done.stdout + done.stderr
