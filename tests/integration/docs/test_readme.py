# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README's cluster in ten lines, by README's commands, on a lab in README's network."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import textwrap
import typing as t

import pytest
import yaml
from pages import ROOT, shell

README = (ROOT / "README.md").read_text()
LAB = "ansible-playbook oscarv.virt.lab -e lab_name=t-readme -e lab_subnet=198.51.100.0/24 -e lab_inventory_dir=$PWD"
# README does not say how large its machines are: either can take all eight guests of 4 GiB.
HOSTS = [
    {"name": name, "capacity": {"vcpus": 24, "memory": "48 GiB", "disk": "200 GiB"}} for name in ("node01", "node02")
]


def block(beginning: str) -> str:
    """README's indented block that begins so."""
    found = re.match(r"(?: {4}.*\n)+", README[README.index(f"    {beginning}") :])
    return textwrap.dedent(found[0]) if found else ""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    (tmp_path / "cluster.oscarv.yml").write_text(block("plugin: oscarv.virt.cluster"))
    (tmp_path / ".ssh").mkdir()
    subprocess.run(["ssh-keygen", "-qN", "", "-t", "ed25519", "-f", tmp_path / ".ssh" / "id_ed25519"], check=True)
    (tmp_path / "group_vars").mkdir()
    # The lab says how its HostOSes are reached, and they have a bridge. It is reached at its link's own address.
    inventory = yaml.safe_load(block("all:"))
    assert list(inventory["all"]["hosts"]) == [host["name"] for host in HOSTS]
    url = inventory["all"]["vars"]["image_store_url"].replace("198.51.100.4", "198.51.100.1")
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump({"image_store_url": url}))
    (tmp_path / "group_vars" / "oscarv_guest.yml").write_text(
        f"ansible_ssh_private_key_file: {tmp_path}/.ssh/id_ed25519\n"
    )
    hosts = json.dumps({"lab_hosts": HOSTS})
    try:
        up = shell(f"{LAB} -e '{hosts}'", tmp_path)
        assert up.returncode == 0, up.stdout[-5000:]
        yield tmp_path
    finally:
        shell("ansible oscarv_builder -i . -m include_role -a 'name=oscarv.virt.image tasks_from=unserve'", tmp_path)
        shell(f"{LAB} -e lab_state=absent", tmp_path)


@pytest.mark.long
def test_a_cluster_of_your_own(folder: pathlib.Path) -> None:
    for command in block("ansible-playbook oscarv.virt.hostos").splitlines():
        done = shell(command, folder, HOME=str(folder))
        assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}"
    again = shell("ansible-playbook oscarv.virt.deploy -i .", folder, HOME=str(folder))
    assert again.returncode == 0 and not re.search(r"changed=[1-9]", again.stdout), again.stdout[-3000:]
