# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that are built already: the whole step of the playbook, against a play with one ping."""

from __future__ import annotations

import hashlib
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import typing as t

import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
RUNS = 5
GOAL = 2.0  #: seconds, of issue 2


def rows() -> list[dict[str, t.Any]]:
    with tempfile.TemporaryDirectory(prefix="oscarv-bench-image.") as name:
        folder = pathlib.Path(name)
        inventory = prepare(folder)
        ping = folder / "ping.yml"
        task = {"ansible.builtin.ping": {}, "name": "Ask"}
        ping.write_text(yaml.safe_dump([{"hosts": "oscarv_builder", "gather_facts": False, "tasks": [task]}]))
        play("oscarv.virt.image", inventory)
        ours = statistics.median(play("oscarv.virt.image", inventory) for _run in range(RUNS))
        peer = statistics.median(play(str(ping), inventory) for _run in range(RUNS))
    return [
        {
            "bar": "image: 3 images that are there, whole playbook (s), against a play with one ping",
            "ours": ours,
            "peer": peer,
            "ratio": ours / peer,
            "goal": f"< {GOAL:g} s",
            "holds": ours < GOAL,
        }
    ]


def prepare(folder: pathlib.Path) -> pathlib.Path:
    """An inventory whose three images are imports, so that nothing has to be built first."""
    images = {}
    for number in range(3):
        disk = folder / f"disk{number}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), f"{64 + number}M"], check=True)
        digest = hashlib.sha256(disk.read_bytes()).hexdigest()
        images[f"image{number}"] = {"builder": "import", "url": f"file://{disk}", "sha256": digest}
    inventory = folder / "inventory"
    inventory.mkdir()
    definition = {"plugin": "oscarv.virt.cluster", "cluster": "bench", "images": images}
    (inventory / "bench.oscarv.yml").write_text(yaml.safe_dump(definition))
    builder = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
        "image_store": str(folder / "store"),
    }
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"oscarv_builder": {"hosts": {"localhost": builder}}}))
    return inventory


def play(playbook: str, inventory: pathlib.Path) -> float:
    begin = time.monotonic()
    subprocess.run(
        [str(TOP / ".venv/bin/ansible-playbook"), playbook, "-i", str(inventory)],
        cwd=TOP,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - begin
