# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real HostOSes of a lab with tiny guests between which they are moved, and a listener that hears each guest."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import typing as t
import uuid
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = ROOT / ".venv/bin"
LAB_DIR = pathlib.Path("/var/lib/oscarv-lab")
NETWORK = "10.88.5"
NAMES = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
MIB = 2**20
#: Without pipelining a module's name stands on its command line, by which the tests find it to kill it.
ANSIBLE = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0", "ANSIBLE_PIPELINING": "0"}
MARK = "metadata/{urn:oscarv:virt:guest:1}guest"


@dataclasses.dataclass(frozen=True)
class Tick:
    at: float
    boot: str
    count: int
    blocks: int
    bad: int


class Beacons:
    """Hears what beacon.c sends; by MAC."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Tick]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        self._socket.bind((f"{NETWORK}.1", 7777))
        self._socket.settimeout(0.5)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                words = self._socket.recv(256).decode().split()
            except TimeoutError:
                continue
            tick = Tick(time.monotonic(), words[1], int(words[2]), int(words[3]), int(words[4]))
            self.heard.setdefault(words[0], []).append(tick)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def since(self, mac: str, begin: float) -> list[Tick]:
        return [tick for tick in list(self.heard.get(mac, [])) if tick.at >= begin]

    def wait(self, mac: str, ticks: int = 20, seconds: float = 120, begin: float | None = None) -> list[Tick]:
        """Until so many ticks came after `begin` (now)."""
        begin = time.monotonic() if begin is None else begin
        end = time.monotonic() + seconds
        while len(self.since(mac, begin)) < ticks:
            assert time.monotonic() < end, f"{mac} was not heard {ticks} times within {seconds} s"
            time.sleep(0.1)
        return self.since(mac, begin)

    def uninterrupted(self, mac: str, begin: float) -> float:
        """Since `begin` one boot counted without a gap and its disk was right; the longest silence in seconds."""
        ticks = self.wait(mac, ticks=len(self.since(mac, begin)) + 15, begin=begin)
        assert len({tick.boot for tick in ticks}) == 1, "it was booted again"
        counts = [tick.count for tick in ticks]
        assert counts == list(range(counts[0], counts[0] + len(counts))), "its memory, or packets, were lost"
        assert ticks[-1].bad == 0, f"{ticks[-1].bad} of {ticks[-1].blocks} blocks on its disk were not what it wrote"
        assert ticks[-1].blocks > ticks[0].blocks, "it does not write any more"
        return max(later.at - earlier.at for earlier, later in zip(ticks, ticks[1:], strict=False))


@dataclasses.dataclass
class Ran:
    code: int
    text: str

    @property
    def changed(self) -> bool:
        return bool(re.search(r"changed=[1-9]", self.text))


@dataclasses.dataclass
class Rack:
    """`name`: of the lab. `folder`: inventory, definition and ledger."""

    name: str
    folder: pathlib.Path
    build: pathlib.Path
    hosts: tuple[str, str] = ("node01", "node02")

    # -- reaching the HostOSes --------------------------------------------------------------------------------------

    def address(self, host: str) -> str:
        record = json.loads((LAB_DIR / "labs" / self.name / "lab.json").read_text())
        return str(record["hosts"][host]["address"])

    def ssh(self, host: str, command: str, *, check: bool = True, stdin: bytes | None = None) -> str:
        keys = LAB_DIR / "labs" / self.name / "ssh"
        options = {
            "IdentityFile": f"{keys}/id_ed25519",
            "UserKnownHostsFile": f"{keys}/known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ControlMaster": "auto",
            "ControlPath": f"{self.folder.parent}/cm-%h",
            "ControlPersist": "30",
        }
        words = ["ssh", *(f"-o{key}={value}" for key, value in options.items()), f"root@{self.address(host)}", command]
        done = subprocess.run(words, capture_output=True, check=False, timeout=180, input=stdin)
        text = done.stdout.decode(errors="replace")
        assert not check or done.returncode == 0, f"{host}: {command}: {text}{done.stderr.decode(errors='replace')}"
        return text.strip()

    def start(self, *words: str, keep: bool = False) -> subprocess.Popen[str]:
        """A command of Ansible's in a process group of its own. `keep` the programs that it puts on HostOSes."""
        return subprocess.Popen(
            [str(BIN / words[0]), "-i", str(self.folder), *words[1:]],
            cwd=ROOT,
            env={**os.environ, **ANSIBLE, "ANSIBLE_KEEP_REMOTE_FILES": str(int(keep))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, playbook: str, *arguments: str, good: bool = True, **variables: t.Any) -> Ran:
        extra = ["-e", json.dumps(variables)] if variables else []
        process = self.start("ansible-playbook", playbook, *extra, *arguments)
        text, _none = process.communicate(timeout=1500)
        assert not good or process.returncode == 0, text
        return Ran(process.returncode, text)

    def module(self, host: str, name: str, arguments: t.Mapping[str, t.Any], *flags: str) -> dict[str, t.Any]:
        """What a module returns, failed or not; `text` is all that Ansible printed, the diff included."""
        process = self.start("ansible", host, "-m", f"oscarv.virt.{name}", "-a", json.dumps(arguments), *flags)
        text, _none = process.communicate(timeout=1500)
        found = re.search(r"(SUCCESS|CHANGED|FAILED!) => (\{.*)", text, re.S)
        assert found, text
        result: dict[str, t.Any] = json.JSONDecoder().raw_decode(found[2])[0]
        return {**result, "failed": found[1] == "FAILED!", "text": text}

    # -- guests -----------------------------------------------------------------------------------------------------

    def spec(self, name: str, number: int, **changes: t.Any) -> dict[str, t.Any]:
        """A guest with an overlay and a data disk; its address is NETWORK.number, as beacon.c wants it."""
        nic = {"name": "eth0", "network": "compute", "mac": self.mac(number), "bridge": "br0"}
        build_id = self.build.stem
        return {
            "cluster": "tmod",
            "name": name,
            "uuid": str(uuid.uuid5(NAMES, name)),
            "partition": "p",
            "epoch": 1,
            "hypervisor": "kvm",
            "state": "running",
            "vcpus": 1,
            "memory": 128 * MIB,
            "disks": [
                {"name": "root", "size": 256 * MIB, "pool": "local", "build_id": build_id},
                {"name": "data", "size": 1024 * MIB, "pool": "local"},
            ],
            "nics": [nic],
            "seed": {"hostname": name},
            **changes,
        }

    @staticmethod
    def mac(number: int) -> str:
        return "52:54:" + ":".join(f"{int(part):02x}" for part in f"{NETWORK}.{number}".split("."))

    def make(self, host: str, *specs: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Run `guest`."""
        return self.module(host, "guest", {"cluster": "tmod", "specs": list(specs), "prune": "off"})

    def move(
        self, spec: t.Mapping[str, t.Any], source: str, target: str, epoch: int, *flags: str, **options: t.Any
    ) -> dict[str, t.Any]:
        """Run `guest_migrate` for one guest; its result, with `changed` and `failed` of the whole."""
        return self.module(source, "guest_migrate", self.request(spec, source, target, epoch, **options), *flags)

    def request(
        self, spec: t.Mapping[str, t.Any], source: str, target: str, epoch: int, **options: t.Any
    ) -> dict[str, t.Any]:
        wish = {
            "id": f"{spec['name']}-{epoch}",
            "spec": {**spec, "seed": None},
            "epoch": epoch,
            "target": target,
            "target_address": self.address(target),
            **options,
        }
        return {"source": source, "moves": [wish]}

    def settle(
        self, host: str, *actions: t.Mapping[str, t.Any], cluster: str = "tmod", flags: str = ""
    ) -> dict[str, t.Any]:
        return self.module(host, "guest_migrate", {"cluster": cluster, "settle": list(actions)}, *flags.split())

    def domain(self, host: str, name: str) -> ET.Element | None:
        """Its persistent configuration."""
        text = self.ssh(host, f"virsh dumpxml --inactive {name} 2>/dev/null || echo none")
        return None if text == "none" else ET.fromstring(text)

    def where(self, name: str) -> dict[str, tuple[str, int]]:
        """HostOS -> (state, epoch of the mark) of each that has the guest."""
        found = {}
        for host in self.hosts:
            xml = self.domain(host, name)
            if xml is not None:
                mark = xml.find(MARK)
                epoch = int(mark.get("epoch", 0)) if mark is not None else 0
                found[host] = (self.ssh(host, f"virsh domstate {name}").split("\n")[0], epoch)
        return found

    def copies(self, name: str) -> list[str]:
        """HostOSes where a QEMU of this guest runs, once for each process."""
        guest = str(uuid.uuid5(NAMES, name))
        found = []
        for host in self.hosts:
            # The id of a guest of the ledger is not ours to choose: the name stands on QEMU's command line, too.
            pattern = f"[g]uest={name},|[-]uuid {guest}"
            count = int(self.ssh(host, f"pgrep -fc '{pattern}' || true") or 0)
            found += [host] * count
        return found

    def files(self, host: str, cluster: str = "tmod", *, of: str = "") -> dict[str, str]:
        """Name -> mode of the files in the cluster's folder, of all guests or of one."""
        text = self.ssh(
            host, f"find /var/lib/oscarv/{cluster} -type f -name '{of}*' -printf '%f %m\\n' 2>/dev/null || true"
        )
        return dict(line.split() for line in text.splitlines())

    def stones(self, host: str) -> str:
        return self.ssh(host, "cd /var/lib/oscarv-host && cat tombstones/* departures/*.json 2>/dev/null || true")

    def picture(self, cluster: str = "tmod") -> dict[str, t.Any]:
        """All that a refused move must leave as it was, on both HostOSes."""
        return {host: self._picture(host, cluster) for host in self.hosts}

    def _picture(self, host: str, cluster: str) -> dict[str, t.Any]:
        names = self.ssh(host, "virsh -q list --all --name").split()
        configurations = {name: self.ssh(host, f"virsh dumpxml --inactive {name}") for name in names}
        facts = "virsh -q list --all | awk '{print $2, $3, $4}' | sort; virsh -q list --all --autostart --name | sort"
        return {
            "domains": configurations,
            "states": self.ssh(host, facts),
            "pools": self.ssh(host, "virsh -q pool-list --all --name"),
            "files": self.files(host, cluster),
            "stones": self.stones(host),
        }
