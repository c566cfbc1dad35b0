# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small, complete definition that the tests break in one place at a time."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import DefinitionErrors, load
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition_errors import DefinitionError
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Cluster

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me"

GOOD = f"""\
plugin: oscarv.virt.cluster
cluster: demo
networks:
  compute: {{bridge: br0, ranges: [10.0.4.0/24, "fd12:3456::/64"], gateway: 10.0.4.1, reserved: [10.0.4.2-10.0.4.9]}}
  store: {{bridge: br0, vlan: 12, mtu: 9000, ranges: 10.0.5.0/24}}
pools:
  local: {{type: dir}}
  san: {{type: nfs, source: "nas:/export"}}
enclosures:
  room1: {{level: room}}
  rack1: {{level: rack, in: room1, members: "node[01:02]"}}
  rack2: {{level: rack, in: room1, members: [node03, node04]}}
partitions:
  kvmhosts: {{hypervisor: kvm, members: "node[01:03]", capacity: {{vcpus: 8, memory: 16 GiB, disk: 1 TiB}}}}
  xenhosts: {{hypervisor: xen, members: node04}}
  workers:
    image: base
    members: "wn[01:20]"
    on: [kvmhosts, xenhosts]
    vcpus: 2
    memory: 4 GiB
    disk: 20 GiB
    networks: [compute]
    spread: rack
    tolerate: [{{lose: 1, of: host}}]
    authorized_keys: ["{KEY}"]
    override:
      wn01: {{memory: 8 GiB}}
rules:
  - {{apart: [wn01, wn02], over: rack}}
  - {{pin: wn04, to: "node[01:02]"}}
images:
  base: {{builder: debian, release: bookworm}}
"""


class Definer:
    """Writes definitions into a folder of the test and loads them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "c.oscarv.yml") -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def load(self, text: str = GOOD) -> Cluster:
        return load(self.write(text))

    def errors(self, text: str) -> list[DefinitionError]:
        with pytest.raises(DefinitionErrors) as caught:
            load(self.write(text))
        assert str(caught.value) == "\n".join(map(str, caught.value.errors))
        return caught.value.errors
