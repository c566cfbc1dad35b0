# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab called t-mig with two KVM HostOSes (root); up for the session, gone after it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import typing as t

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tiny
from rack import NETWORK, Beacons, Rack

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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: too slow for CI; `make test-long` runs it")


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


@pytest.fixture(scope="session")
def rack(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rack]:
    if os.geteuid() != 0:
        pytest.fail("these tests make real machines: run them as root")
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = os.environ.get("OSCARV_TEST_RACK")
    if kept:  # for work on these tests: made in this folder by the first session, and left there
        folder = pathlib.Path(kept)
        folder.mkdir(parents=True, exist_ok=True)
        left = Rack("t-mig", folder, tiny.build(CACHE))
        if not (folder / "hosts.yml").exists():
            contextlib.ExitStack().enter_context(lab_up(left))
        yield left
        return
    with lab_up(Rack("t-mig", tmp_path_factory.mktemp("rack"), tiny.build(CACHE))) as up:
        yield up


@pytest.fixture(scope="session")
def beacons(rack: Rack) -> t.Iterator[Beacons]:
    listening = Beacons()
    yield listening
    listening.close()
