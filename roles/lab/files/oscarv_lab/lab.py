# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab: brought up, healed and removed. Its record `lab.json` is written before anything is made and removed last."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ipaddress
import json
import os
import pathlib
import re
import shutil
import typing as t

from . import cgroup, machine, network, qemu, rootfs, sshkeys, sysctls
from .base import LabError, Report, locked, read_json, run, write
from .wish import FIRST_HOST, HostWish, Wish

#: What the lab needs on this machine.
PACKAGES = (
    "debian-archive-keyring",
    "iproute2",
    "mmdebstrap",
    "nftables",
    "openssh-client",
    "systemd-container",
    "util-linux",
)
#: systemd-resolved's stub answers on this machine only; its own list has the servers that HostOSes can ask.
RESOLVERS = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")


class Lab:
    """The lab of a name under a lab directory. `up` and `down` hold its lock, for as long as they take."""

    def __init__(self, wish: Wish, report: Report) -> None:
        self.wish = wish
        self.report = report
        self.top = pathlib.Path(wish.directory)
        self.directory = self.top / "labs" / wish.name
        self.record: dict[str, t.Any] = {}
        self._lock = -1

    def look(self) -> dict[str, t.Any]:
        """Refuse what cannot be, before anything is installed; returns the packages that are missing."""
        inventory = self.wish.inventory
        if inventory.exists() and not self._inventory_is_ours():
            raise LabError(
                f"lab_inventory_dir: {inventory} was not written for lab {self.wish.name}: choose another folder"
            )
        if not self._nameservers():
            raise LabError(
                "lab_nameservers: this machine names no name server but itself; say which ones the HostOSes shall ask"
            )
        shown = run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n").splitlines()
        wanted = (*PACKAGES, *(qemu.PACKAGES if self._emulated() else ()))
        return {"missing_packages": [x for x in wanted if f"{x} installed" not in shown], "disks": self._emulated()}

    def _emulated(self) -> list[str]:
        """The suites that machines in QEMU are wished with."""
        return sorted({host.suite for host in self.wish.hosts.values() if host.machine == "qemu"})

    def _inventory_is_ours(self) -> bool:
        return self.wish.inventory.exists() and self.wish.marker in self.wish.inventory.read_text().splitlines()

    def _nameservers(self) -> tuple[str, ...]:
        """The wished ones, else those of this machine that others can ask too."""
        found: dict[str, None] = {}
        for file in map(pathlib.Path, RESOLVERS):
            for line in file.read_text().splitlines() if file.exists() else []:
                words = line.split()
                if words[:1] == ["nameserver"] and not re.match(r"127\.|::1$|.*%", words[1]):
                    found[words[1]] = None
        return self.wish.nameservers or tuple(found)

    def up(self) -> dict[str, t.Any]:
        """Bring up what is missing; returns what the inventory needs. A second call changes nothing."""
        if self.report.check and not self.directory.exists():
            return self._up()
        with locked(self.directory) as self._lock:
            try:
                return self._up()
            finally:
                if not any(self.directory.iterdir()):
                    self.directory.rmdir()  # refused before anything was made

    def _up(self) -> dict[str, t.Any]:
        bridge, subnet = self.wish.bridge, self.wish.subnet
        with contextlib.nullcontext() if self.report.check else locked(self.top):  # no root file system goes meanwhile
            self._decide()
        sysctls.raise_for(str(self.directory), self.report)
        unplugged = network.ensure_bridge(bridge, subnet, self.report)
        network.ensure_nat(self.wish.name, bridge, subnet, self.report)
        if chain := network.forward_drop():
            self.report.warnings.append(
                f"chain {chain} of this machine drops what it forwards; the HostOSes reach the outer network only "
                f"if it accepts traffic from and to {bridge}"
            )
        self._build_roots()
        self._start_all(unplugged)
        return self._inventory()

    def _decide(self) -> None:
        """Write down the lab as wished, before anything is made; LabError where it cannot follow from what is there."""
        was = read_json(self.directory / "lab.json")
        if was is None:
            network.refuse_strangers(self.wish.bridge, self.wish.subnet)
            was = {"subnet": str(self.wish.subnet), "hosts": {}}
        self._refuse(was)
        self.record = was
        for name in sorted(set(was["hosts"]) - set(self.wish.hosts)):
            self._remove_host(name)
        self.record = {**was, "inventory": str(self.wish.inventory), "hosts": self._addresses(was["hosts"])}
        if self.record != read_json(self.directory / "lab.json") and self.report.will("write down the lab"):
            write(self.directory / "lab.json", json.dumps(self.record, indent=1))

    def _refuse(self, was: t.Mapping[str, t.Any]) -> None:
        """LabError for wishes that only a lab made anew can fulfil, and for a list that would take HostOSes away."""
        lab, advice = f"lab {self.wish.name}", "remove it first (lab_state: absent)"
        if was["subnet"] != str(self.wish.subnet):
            raise LabError(f"lab_subnet: {lab} stands with {was['subnet']}, not {self.wish.subnet}; {advice}")
        for name, host in was["hosts"].items():
            wished = self.wish.hosts.get(name)
            if wished is None:
                continue
            if wished.machine != host.get("machine", "nspawn"):
                raise LabError(f"lab_hosts: {name} of {lab} is another kind of machine; {advice}")
            if wished.suite != host["suite"]:
                raise LabError(f"lab_suite: {name} of {lab} runs {host['suite']}, not {wished.suite}; {advice}")
            if wished.machine != "qemu":
                continue
            size = host["memory"], host.get("processors", 1)
            if size != (wished.memory, wished.processors):
                words = "{} MiB of memory and {} processors"
                asked = words.format(wished.memory, wished.processors)
                raise LabError(f"lab_hosts: {name} of {lab} has {words.format(*size)}, not {asked}; {advice}")
        gone = sorted(set(was["hosts"]) - set(self.wish.hosts))
        if gone and not self.wish.remove_hosts:
            raise LabError(
                f"lab_hosts: {', '.join(gone)} of {lab} not listed; "
                "list them, or say lab_remove_hosts: true to have them removed with all that is on them"
            )

    def _addresses(self, was: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """A HostOS keeps its address and root file system; a new one gets the lowest free address.

        There is one: `parse` saw to the room.
        """
        subnet, taken = self.wish.subnet, {was[name]["address"] for name in was if name in self.wish.hosts}
        free = (str(subnet[i]) for i in range(FIRST_HOST, subnet.num_addresses - 1) if str(subnet[i]) not in taken)
        return {
            name: was.get(name) or {"address": next(free), "suite": host.suite, **self._base(host)}
            for name, host in self.wish.hosts.items()
        }

    def _base(self, host: HostWish) -> dict[str, t.Any]:
        """What a new HostOS stands on."""
        if host.machine == "qemu":
            disk = self.wish.disks.get(host.suite) or ""
            if not disk and not self.report.check:
                raise LabError(f"lab_hosts: no disk was built for machines in QEMU of suite {host.suite}")
            return {"machine": "qemu", "rootfs": disk, "memory": host.memory, "processors": host.processors}
        return {"rootfs": self._rootfs(host.suite).name}

    def _rootfs(self, suite: str) -> rootfs.RootFs:
        return rootfs.RootFs(self.top / "rootfs", suite, self.wish.sources, self.wish.packages)

    def _build_roots(self) -> None:
        """A HostOS stays on the root file system that it was made on: its own layer fits no other."""
        contained = [host for host in self.wish.hosts.values() if host.machine == "nspawn"]
        systems = {x.name: x for x in (self._rootfs(host.suite) for host in contained)}
        for name in sorted({x["rootfs"] for x in self.record["hosts"].values() if "machine" not in x}):
            if name in systems:
                systems[name].ensure(self.report)
            elif not (self.top / "rootfs" / name).exists():
                raise LabError(
                    f"{self.top}/rootfs/{name} is gone, and lab {self.wish.name} stands on it; "
                    "remove the lab (lab_state: absent) and bring it up again"
                )

    def _machine(self, name: str) -> machine.Machine:
        host, subnet = self.record["hosts"][name], self.wish.subnet
        common: dict[str, t.Any] = {
            "lab": self.wish.name,
            "directory": self.directory,
            "name": name,
            "address": ipaddress.IPv4Interface(f"{host['address']}/{subnet.prefixlen}"),
            "gateway": str(subnet[1]),
            "bridge": self.wish.bridge,
            "rootfs": self.top / "rootfs" / host["rootfs"],  # an absolute path (a disk) stays as it is
            "nameservers": self._nameservers(),
        }
        if host.get("machine") != "qemu":
            return machine.Machine(**common)
        system = self._rootfs(host["suite"])
        certificates = tuple(sorted(system.certificates.items()))
        return qemu.QemuMachine(
            **common,
            memory=host["memory"],
            processors=host.get("processors", 1),
            apt=system.apt,
            certificates=certificates,
        )

    def _packages(self, suite: str) -> pathlib.Path:
        """Where the package files of a suite are kept between labs."""
        return self.top / "packages" / suite

    def _start_all(self, unplugged: bool) -> None:
        """Start what does not run, and what runs but lost its bridge; wait until every HostOS answers."""
        machines = [self._machine(name) for name in self.record["hosts"]]
        names = [f"{x.address.ip} {x.name}" for x in machines]
        keys = sshkeys.Keys(self.directory)
        keys.ensure({x.name: str(x.address.ip) for x in machines}, self._owner(), self.report)
        waiting = [x for x in machines if x.running() and not unplugged]
        starting = [x for x in machines if x not in waiting and self.report.will(f"start {x.name}")]
        for host in waiting:
            if not host.knows(names) and self.report.will(f"tell {host.name} the names of the others"):
                host.tell(names)
        # They boot at once; more of them than this at a time only wait for each other's processor and disk.
        with concurrent.futures.ThreadPoolExecutor(max_workers=4 * (os.cpu_count() or 1)) as pool:
            futures = [pool.submit(self._start, x, names, keys) for x in starting]
            if not self.report.check:
                futures += [pool.submit(x.wait, None, self.wish.wait_timeout) for x in waiting]
            errors = [error for future in futures if (error := future.exception())]
        for error in errors:
            if not isinstance(error, LabError):
                raise error
        if errors:
            raise LabError("\n".join(map(str, errors)))

    def _start(self, host: machine.Machine, names: t.Sequence[str], keys: sshkeys.Keys) -> None:
        host.prepare(names, self._packages(self.record["hosts"][host.name]["suite"]))
        keys.close_connections(str(host.address.ip))
        host.wait(host.start(self._lock), self.wish.wait_timeout)

    def _owner(self) -> tuple[int, int]:
        """Who will log in to the HostOSes: whoever has the folder of the inventory."""
        folder = self.wish.inventory.parent
        return (folder.stat().st_uid, folder.stat().st_gid) if folder.exists() else (0, 0)

    def _inventory(self) -> dict[str, t.Any]:
        keys = sshkeys.Keys(self.directory)
        return {
            "owner": self._owner(),
            "hosts": {
                name: {
                    "address": x["address"],
                    "capacity": self.wish.hosts[name].capacity,
                    "machine": x.get("machine", "nspawn"),
                }
                for name, x in self.record["hosts"].items()
            },
            "private_key": str(keys.user),
            "known_hosts": str(keys.known_hosts),
            "control_path": str(keys.control),
        }

    def down(self) -> None:
        """Remove the lab and every trace of it but the shared caches, whatever state it is in."""
        if self.directory.exists():
            with locked(self.directory):
                self.record = read_json(self.directory / "lab.json") or {}
                if self.record:
                    self._down()
                if not self.report.check:
                    shutil.rmtree(self.directory)
        if self._inventory_is_ours() and self.report.will(f"remove {self.wish.inventory}"):
            self.wish.inventory.unlink()
        if not self.wish.keep_cache:
            self._remove_cache()

    def _down(self) -> None:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for _done in pool.map(self._remove_host, sorted(self.record["hosts"])):
                pass  # an exception comes out here
        network.remove_nat(self.wish.name, self.report)
        network.remove_bridge(self.wish.bridge, self.report)
        sysctls.give_back(str(self.directory), self.report)
        if not self.report.check:
            cgroup.remove_empty([self.wish.name, ""])
        self.report.will(f"remove {self.directory}")

    def _remove_host(self, name: str) -> None:
        """End a HostOS and remove what was its disk; the packages that it fetched are kept for the next."""
        home = self.directory / "hosts" / name
        if not self.report.will(f"remove {name}"):
            return
        cgroup.kill(f"{self.wish.name}/{name}")
        host = self.record["hosts"][name]
        sshkeys.Keys(self.directory).close_connections(host["address"])
        archive = home / "upper/var/cache/apt/archives"
        if archive.exists():
            machine.link_packages(archive, self._packages(host["suite"]))
        if home.exists():
            machine.discard(home)
        machine.forget(f"{self.wish.name}-{name}")

    def _remove_cache(self) -> None:
        """Remove the root file systems that no lab stands on and, with the last lab, everything."""
        if not self.top.exists():
            return
        with contextlib.nullcontext() if self.report.check else locked(self.top):
            records = [read_json(x) for x in self.top.glob("labs/*/lab.json") if x.parent != self.directory]
            if not records:
                if self.report.will(f"remove {self.top} with its caches"):
                    shutil.rmtree(self.top)
                return
            used = {host["rootfs"] for record in records for host in record["hosts"].values()}
            rootfs.remove_unused(self.top / "rootfs", used, self.report)
