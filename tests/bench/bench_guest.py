# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""50 guests on one HostOS, through ansible-playbook, against what people use today. Needs root (a libvirtd of its own).

(a) defined and started on libvirt's simulator: `guest` once, against a loop of community.libvirt.virt.
(b) defined with overlays and seeds on a real QEMU: `guest` once, against a shell script of qemu-img, genisoimage and
    virsh, which makes no host keys and recovers from nothing.
Wall seconds of the whole command, the least of RUNS: the machine is shared, and what is more than the least is others'.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
import typing as t

import libvirt

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration/kvm"))

from private_libvirtd import PrivateLibvirtd, bridge, no_bridge

GUESTS = 50
RUNS = 3
MIB = 2**20
BRIDGE = f"bg{os.getpid() % 100000}"
BUILD = "ab" * 32

OURS = """
- hosts: localhost
  gather_facts: false
  tasks:
    - oscarv.virt.guest:
        uri: "{{ uri }}"
        state_dir: "{{ state_dir }}"
        cluster: bench
        specs: "{{ specs }}"
"""

PEER = """
- hosts: localhost
  gather_facts: false
  tasks:
    - community.libvirt.virt:
        uri: "{{ uri }}"
        command: define
        xml: "{{ item.xml }}"
      loop: "{{ domains }}"
      loop_control: {label: "{{ item.name }}"}
    - community.libvirt.virt:
        uri: "{{ uri }}"
        command: create
        name: "{{ item.name }}"
      loop: "{{ domains }}"
      loop_control: {label: "{{ item.name }}"}
"""

DOMAIN = """<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices><disk type='file'><source file='/pool/{name}.qcow2'/><target dev='vda'/></disk>
<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/></interface></devices></domain>"""

META_DATA = "instance-id: {name}\nlocal-hostname: {name}\n"
USER_DATA = "#cloud-config\nhostname: {name}\nssh_authorized_keys: [ssh-ed25519 AAAA]\n"
NETWORK = "version: 2\nethernets: {{eth0: {{match: {{macaddress: '{mac}'}}, addresses: [10.0.0.{number}/24]}}}}\n"


def spec(number: int, pool: str, state: str, bridge_name: str, build_id: str | None) -> dict[str, t.Any]:
    name = f"wn{number:03}"
    return {
        "cluster": "bench",
        "name": name,
        "uuid": f"6f7a3f1e-0f0e-4d55-9d3c-{number:012x}",
        "partition": "workers",
        "epoch": 1,
        "hypervisor": "kvm",
        "state": state,
        "vcpus": 1,
        "memory": 64 * MIB,
        "disks": [{"name": "root", "size": 32 * MIB, "pool": pool, "build_id": build_id}],
        "nics": [{"name": "eth0", "network": "compute", "mac": f"52:54:00:00:00:{number:02x}", "bridge": bridge_name}],
        "seed": {"hostname": name, "authorized_keys": ["ssh-ed25519 AAAA"]},
    }


class Bench:
    """A private HostOS and a directory for playbooks."""

    def __init__(self, daemon: PrivateLibvirtd, work: pathlib.Path) -> None:
        self.daemon, self.work = daemon, work

    def play(self, name: str, playbook: str, variables: t.Mapping[str, t.Any]) -> float:
        path, given = self.work / f"{name}.yml", self.work / f"{name}.json"
        path.write_text(playbook)
        given.write_text(json.dumps({"ansible_python_interpreter": sys.executable, **variables}))
        words = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
        return self.timed([*words, "-e", f"@{given}", str(path)])

    def timed(self, words: list[str]) -> float:
        started = time.monotonic()
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        if done.returncode:
            raise RuntimeError(f"{shlex.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
        return seconds

    def domains(self, uri: str) -> tuple[int, int]:
        """(all, running) of this benchmark."""
        with contextlib.closing(libvirt.open(uri)) as connection:
            found = [domain for domain in connection.listAllDomains() if domain.name().startswith("wn")]
            return len(found), sum(domain.isActive() for domain in found)


def simulator_row(bench: Bench) -> dict[str, t.Any]:
    uri = bench.daemon.test_uri
    specs = [spec(number, "default-pool", "running", "br0", None) for number in range(1, GUESTS + 1)]
    names = [(one["name"], one["uuid"], one["nics"][0]["mac"]) for one in specs]
    domains = [{"name": name, "xml": DOMAIN.format(name=name, uuid=uuid, mac=mac)} for name, uuid, mac in names]
    variables = {"uri": uri, "state_dir": str(bench.work / "state"), "specs": specs, "domains": domains}
    ours, peer = [], []
    with contextlib.closing(libvirt.open(uri)):  # the simulator forgets when nobody looks
        for _run in range(RUNS):
            ours.append(bench.play("ours", OURS, variables))
            expect(bench.domains(uri), (GUESTS, GUESTS))
            bench.daemon.clear_guests()
        peer.append(bench.play("peer", PEER, variables))
        expect(bench.domains(uri), (GUESTS, GUESTS))
        bench.daemon.clear_guests()
    ratio = min(peer) / min(ours)
    name = f"{GUESTS} guests defined and started on the simulator; peer: community.libvirt.virt in a loop"
    return {"bar": name, "ours": min(ours), "peer": min(peer), "ratio": ratio, "goal": ">= 20", "holds": ratio >= 20}


def script(bench: Bench, specs: list[dict[str, t.Any]]) -> str:
    """What an administrator would write."""
    pool, base = bench.daemon.pool, bench.daemon.pool / "builds" / f"{BUILD}.qcow2"
    lines = ["set -eu", f"mkdir -p {pool}/script {bench.work}/seed"]
    for number, one in enumerate(specs, 1):
        name, mac, seed = one["name"], one["nics"][0]["mac"], bench.work / "seed"
        files = {"meta-data": META_DATA, "user-data": USER_DATA, "network-config": NETWORK}
        for file, text in files.items():
            (bench.work / f"{name}.{file}").write_text(text.format(name=name, mac=mac, number=number))
            lines.append(f"cp {bench.work}/{name}.{file} {seed}/{file}")
        lines += [
            f"qemu-img create -q -f qcow2 -b {base} -F qcow2 {pool}/script/{name}.qcow2 {32 * MIB}",
            f"genisoimage -quiet -output {pool}/script/{name}.iso -volid cidata -joliet -rock"
            f" {seed}/meta-data {seed}/user-data {seed}/network-config",
            f"virsh -q -c '{bench.daemon.qemu_uri}' define {bench.work}/{name}.xml",
        ]
    return "\n".join(lines) + "\n"


def write_xml(bench: Bench, specs: list[dict[str, t.Any]]) -> None:
    """The same domains for the script: those that `guest` has made, with the script's files."""
    with contextlib.closing(libvirt.open(bench.daemon.qemu_uri)) as connection:
        for one in specs:
            name = one["name"]
            xml = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            for ours, theirs in (
                (f"bench/{name}-root.qcow2", f"{name}.qcow2"),
                (f"bench/{name}-seed.iso", f"{name}.iso"),
            ):
                xml = xml.replace(ours, f"script/{theirs}")
            (bench.work / f"{name}.xml").write_text(xml)


def overlay_row(bench: Bench) -> dict[str, t.Any]:
    uri = bench.daemon.qemu_uri
    build = bench.daemon.pool / "builds" / f"{BUILD}.qcow2"
    build.parent.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(build), str(16 * MIB)], check=True)
    build.chmod(0o444)
    specs = [spec(number, "local", "stopped", BRIDGE, BUILD) for number in range(1, GUESTS + 1)]
    variables = {"uri": uri, "state_dir": str(bench.work / "state"), "specs": specs}
    with contextlib.closing(libvirt.open(uri)) as connection:
        connection.getDomainCapabilities()  # asks QEMU once; neither side shall pay for it
    ours, peer = [], []
    path = bench.work / "script.sh"
    for _run in range(RUNS):
        ours.append(bench.play("ours", OURS, variables))
        expect(bench.domains(uri), (GUESTS, 0))
        write_xml(bench, specs)
        bench.daemon.clear_guests()
        path.write_text(script(bench, specs))
        peer.append(bench.timed(["bash", str(path)]))
        expect(bench.domains(uri), (GUESTS, 0))
        bench.daemon.clear_guests()
    ratio = min(ours) / min(peer)
    name = f"{GUESTS} guests with overlays and seeds defined on QEMU; peer: a script of qemu-img, genisoimage and virsh"
    return {"bar": name, "ours": min(ours), "peer": min(peer), "ratio": ratio, "goal": "<= 1.5", "holds": ratio <= 1.5}


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise RuntimeError(f"the benchmark measured something else: found {found}, wanted {wanted}")


def rows() -> list[dict[str, t.Any]]:
    if os.geteuid() != 0:
        raise SystemExit("bench_guest starts a libvirtd of its own: run it as root")
    daemon = PrivateLibvirtd(pathlib.Path(tempfile.mkdtemp(prefix="oscarv-bench-")))
    bridge(BRIDGE)
    try:
        daemon.start()
        with tempfile.TemporaryDirectory() as work:
            bench = Bench(daemon, pathlib.Path(work))
            return [simulator_row(bench), overlay_row(bench)]
    finally:
        daemon.stop()
        no_bridge(BRIDGE)


if __name__ == "__main__":
    print(json.dumps(rows(), indent=2))
