# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the lab of a rack up and makes KVM HostOSes of its machines; for the tests and the benchmark of moves."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t

from rack import NETWORK, Rack

#: Kept between sessions: the tiny guest's build and the kernel that it was made of.
CACHE = pathlib.Path("/var/lib/oscarv-lab/tiny")
DEFINITION = """\
plugin: oscarv.virt.cluster
cluster: tplay
networks:
  compute: {{bridge: br0, ranges: [{network}.0/24], gateway: {network}.1, reserved: [{network}.1-{network}.99]}}
pools:
  local: {{type: dir, path: /var/lib/oscarv}}
enclosures:
  rack1: {{level: rack, members: [node01]}}
partitions:
  kvmhosts: {{hypervisor: kvm, members: [node01, node02], capacity: {{vcpus: 8, memory: 8 GiB, disk: 100 GiB}}}}
  workers:
    image: tiny
    members: "p[1:3]"
    on: [kvmhosts]
    vcpus: 1
    memory: 128 MiB
    disk: 256 MiB
    override:
      p1: {{networks: [{{name: compute, ip: {network}.101, mac: "52:54:0a:58:05:65"}}]}}
      p2: {{networks: [{{name: compute, ip: {network}.102, mac: "52:54:0a:58:05:66"}}]}}
      p3: {{networks: [{{name: compute, ip: {network}.103, mac: "52:54:0a:58:05:67"}}], state: stopped}}
rules:
  - {{pin: p1, to: node01, soft: true}}
  - {{pin: p2, to: node01, soft: true}}
  - {{pin: p3, to: node01, soft: true}}
images:
  tiny: {{builder: import, url: "file://{build}", sha256: "{build_id}"}}
"""


@contextlib.contextmanager
def lab_up(rack: Rack, **variables: t.Any) -> t.Iterator[Rack]:
    """HostOSes of a lab as KVM HostOSes, each with the build; removed afterwards."""
    wish = {"lab_name": rack.name, "lab_subnet": f"{NETWORK}.0/24", "lab_inventory_dir": str(rack.folder), **variables}
    rack.play("oscarv.virt.lab", **wish)
    try:
        text = DEFINITION.format(network=NETWORK, build=rack.build, build_id=rack.build.stem)
        (rack.folder / "tplay.oscarv.yml").write_text(text)
        rack.play("oscarv.virt.hostos")
        for host in rack.hosts:
            path = f"/var/lib/oscarv/builds/{rack.build.name}"
            command = f"mkdir -p /var/lib/oscarv/builds && cat > {path} && chmod 0444 {path}"
            rack.ssh(host, command, stdin=rack.build.read_bytes())
        yield rack
    finally:
        if not os.environ.get("OSCARV_TEST_RACK"):
            rack.play("oscarv.virt.lab", lab_state="absent", **wish)
