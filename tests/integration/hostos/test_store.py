# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two stores of one machine, each served by a systemd unit of its own; a HostOS plays that machine."""

from __future__ import annotations

import pathlib
import urllib.error
import urllib.request

import pytest
from conftest import HostOSes

PLAY = """
- name: A store
  hosts: node01
  gather_facts: false
  tasks:
    - name: Serve it, or stop that
      ansible.builtin.include_role:
        name: oscarv.virt.image
        tasks_from: "{{ verb }}"
"""
UNITS = {"one": 7481, "two": 7482}


def fetched(address: str, name: str) -> str:
    with urllib.request.urlopen(f"http://{address}:{UNITS[name]}/mark", timeout=10) as answer:
        return str(answer.read().decode())


def test_two_stores_of_a_machine_have_a_unit_each(hostoses: HostOSes, tmp_path: pathlib.Path) -> None:
    book, address = tmp_path / "store.yml", hostoses.address("node01")
    book.write_text(PLAY)

    def run(verb: str, name: str, *arguments: str) -> int:
        said = hostoses.playbook(
            str(book),
            *arguments,
            verb=verb,
            image_store=f"/srv/{name}",
            image_store_url=f"http://{address}:{UNITS[name]}",
            image_serve_unit=f"store-{name}",
        )
        return said.ok().changed()["node01"]

    for name in UNITS:
        hostoses.ssh("node01", f"mkdir -p /srv/{name} && echo {name} > /srv/{name}/mark")
        assert run("serve", name, "--check") == 1
        hostoses.ssh("node01", f"test ! -e /etc/systemd/system/store-{name}.service")
        assert run("serve", name) == 2, "the unit's file and its start"
        assert run("serve", name) == 0
    assert [fetched(address, name).strip() for name in UNITS] == list(UNITS)
    assert run("unserve", "one") == 2, "its stop and the unit's file"
    with pytest.raises(urllib.error.URLError, match="refused"):
        fetched(address, "one")
    assert fetched(address, "two").strip() == "two"
    assert run("unserve", "two", "--check") == 2
    assert fetched(address, "two").strip() == "two"
    assert run("unserve", "two") == 2
    assert run("unserve", "two") == 0
    hostoses.ssh("node01", "test ! -e /etc/systemd/system/store-two.service && rm -r /srv/one /srv/two")
