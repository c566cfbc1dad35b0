# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live move by `guest_migrate` against a plain `virsh migrate` of the same guest, both over TLS, in the same run.

Ours is the whole program as Ansible runs it on the HostOS: Python's start, all that is looked at on both sides, the
overlay, the move, the proof, the cleaning up. The peer is `virsh migrate` alone: its target files are made before, and
what it leaves behind is removed after the clock has stopped. A third of the guest's memory is noise, and it writes to
its disk.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import statistics
import sys
import tempfile
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration" / "migrate"))

import tiny
from rack import MIB, Beacons, Rack
from rack_lab import CACHE, lab_up

MEMORY = 1024 * MIB
ROUNDS = 3  #: there and back, each way by both
GOAL = 1.2
FILES = ("root", "data")
PROGRAM = "/root/.ansible/tmp/*/AnsiballZ_guest_migrate.py"


class Bench:
    def __init__(self, rack: Rack) -> None:
        self.rack = rack
        self.spec = rack.spec("bench", 41, memory=MEMORY)
        self.epoch = 1

    def prepare(self) -> None:
        """The guest runs on node01; Ansible's program for the module lies on both, unpacked."""
        made = self.rack.make("node01", self.spec)
        assert not made.get("failed"), made
        for source, target in (("node01", "node02"), ("node02", "node01")):
            request = self.rack.request(self.spec, source, target, 2)
            process = self.rack.start(
                "ansible", source, "--check", "-m", "oscarv.virt.guest_migrate", "-a", json.dumps(request), keep=True
            )
            process.communicate(timeout=300)
            self.rack.ssh(source, f"python3 $(ls -t {PROGRAM} | head -1) explode")

    def _timed(self, host: str, command: str) -> float:
        """Wall-clock seconds of a command on a HostOS."""
        text = self.rack.ssh(host, "bash -c " + shlex.quote(f"TIMEFORMAT=%R; time {{ {command} ; }} 2>&1") + " 2>&1")
        return float(text.strip().splitlines()[-1])

    def ours(self, source: str, target: str) -> float:
        self.epoch += 1
        arguments = {"ANSIBLE_MODULE_ARGS": self.rack.request(self.spec, source, target, self.epoch)}
        folder = self.rack.ssh(source, f"dirname $(ls -t {PROGRAM} | head -1)")
        self.rack.ssh(source, f"cat > {folder}/debug_dir/args", stdin=json.dumps(arguments).encode())
        seconds = self._timed(source, f"python3 {folder}/AnsiballZ_guest_migrate.py execute > /root/bench.json")
        result = json.loads(self.rack.ssh(source, "cat /root/bench.json"))
        assert result["moves"][0]["moved"] and result["moves"][0]["mode"] == "live", result
        return seconds

    def peer(self, source: str, target: str) -> float:
        folder, build = "/var/lib/oscarv/tmod", f"/var/lib/oscarv/builds/{self.rack.build.name}"
        seed = self.rack.ssh(source, f"base64 {folder}/bench-seed.iso").encode()
        self.rack.ssh(
            target,
            f"mkdir -p {folder}; qemu-img create -q -f qcow2 -b {build} -F qcow2 {folder}/bench-root.qcow2 256M;"
            f" qemu-img create -q -f qcow2 {folder}/bench-data.qcow2 1G; base64 -d > {folder}/bench-seed.iso",
            stdin=seed,
        )
        address = self.rack.address(target)
        flags = "--live --p2p --tls --persistent --undefinesource --copy-storage-inc"
        seconds = self._timed(
            source, f"virsh -q migrate {flags} bench qemu+tls://{address}/system tcp://{address} > /dev/null"
        )
        assert set(self.rack.where("bench")) == {target}
        self.rack.ssh(source, f"rm {folder}/bench-*")
        return seconds


def measure(rack: Rack) -> tuple[list[float], list[float]]:
    beacons = Beacons()
    try:
        bench = Bench(rack)
        bench.prepare()
        beacons.wait(rack.mac(41), seconds=300)
        ours, peer = [], []
        for _round in range(ROUNDS):
            for way in (("node01", "node02"), ("node02", "node01")):
                ours.append(bench.ours(*way))
            for way in (("node01", "node02"), ("node02", "node01")):
                peer.append(bench.peer(*way))
        return ours, peer
    finally:
        beacons.close()


def rows() -> list[dict[str, t.Any]]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        lab_up(Rack("t-mig", pathlib.Path(folder), tiny.build(CACHE))) as rack,
    ):
        ours, peer = (statistics.median(times) for times in measure(rack))
    ratio = round(ours / peer, 2)
    name = "live move of a guest with 1 GiB over TLS: seconds of guest_migrate against virsh migrate"
    return [{"bar": name, "ours": ours, "peer": peer, "ratio": ratio, "goal": f"<= {GOAL}", "holds": ratio <= GOAL}]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(rows(), indent=2) + "\n")
