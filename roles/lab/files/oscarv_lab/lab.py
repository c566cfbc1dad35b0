# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab: brought up, healed and removed. Its record `lab.json` is written before anything is made and removed last."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import ipaddress
import json
import os
import pathlib
import shutil
import typing as t

from . import cgroup, machine, network, rootfs, sshkeys, sysctls
from .base import LabError, Report, locked, read_json, write

#: The first HostOS's place in the subnet; below it there is room for the machine itself and for what people add.
FIRST_HOST = 11


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the role asks for. `hosts` maps a HostOS's name to its suite; `owner` is who will log in (uid, gid)."""

    name: str
    directory: str
    bridge: str
    subnet: str
    hosts: t.Mapping[str, str]
    sources: t.Sequence[str] = ()
    packages: t.Sequence[str] = ()
    nameservers: t.Sequence[str] = ()
    wait_timeout: float = 120
    remove_hosts: bool = False
    keep_cache: bool = True
    owner: tuple[int, int] = (0, 0)

    @classmethod
    def from_plain(cls, data: t.Mapping[str, t.Any]) -> Wish:
        """From the role; older releases of Ansible hand numbers on as text."""
        uid, gid = data.get("owner", (0, 0))
        return cls(**{**data, "owner": (int(uid), int(gid)), "wait_timeout": float(data.get("wait_timeout", 120))})


class Lab:
    """The lab of a name under a lab directory; all methods want the lab's lock (`with lab.lock()`)."""

    def __init__(self, wish: Wish, report: Report) -> None:
        self.wish = wish
        self.report = report
        self.top = pathlib.Path(wish.directory)
        self.directory = self.top / "labs" / wish.name
        self.record: dict[str, t.Any] = {}
        self._lock = -1

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
        subnet = ipaddress.IPv4Network(self.wish.subnet)
        self.record = self._decide(subnet)
        if self.record != read_json(self.directory / "lab.json") and self.report.will("write down the lab"):
            self._save()
        sysctls.raise_for(str(self.directory), self.report)
        network.ensure_bridge(self.wish.bridge, subnet, self.report)
        network.ensure_nat(self.wish.name, self.wish.bridge, subnet, self.report)
        if chain := network.forward_drop():
            self.report.warnings.append(
                f"chain {chain} of this machine drops what it forwards; the HostOSes reach the outer network only "
                f"if it accepts traffic from and to {self.wish.bridge}"
            )
        self._build_roots()
        self._start_all()
        return self._inventory()

    def _decide(self, subnet: ipaddress.IPv4Network) -> dict[str, t.Any]:
        """The record of the lab as wished, or LabError where it cannot follow from what is there."""
        was = read_json(self.directory / "lab.json")
        if was is None:
            network.refuse_strangers(self.wish.bridge, subnet)
            was = {"subnet": self.wish.subnet, "bridge": self.wish.bridge, "hosts": {}}
        for key, wanted in (("subnet", self.wish.subnet), ("bridge", self.wish.bridge)):
            if was[key] != wanted:
                raise LabError(
                    f"lab_{key}: lab {self.wish.name} stands with {was[key]}, not {wanted}; "
                    "remove it first (lab_state: absent)"
                )
        gone = sorted(set(was["hosts"]) - set(self.wish.hosts))
        if gone and not self.wish.remove_hosts:
            raise LabError(
                f"lab_hosts: {', '.join(gone)} of lab {self.wish.name} not listed; "
                "list them, or say lab_remove_hosts: true to have them removed with all that is on them"
            )
        self.record = was
        for name in gone:
            self._remove_host(name)
        return {**was, "hosts": self._addresses(subnet, was["hosts"])}

    def _addresses(self, subnet: ipaddress.IPv4Network, was: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """A HostOS keeps its address and root file system; new ones get the lowest free address."""
        taken = {x["address"] for name, x in was.items() if name in self.wish.hosts}
        free = (str(subnet[i]) for i in range(FIRST_HOST, subnet.num_addresses - 1) if str(subnet[i]) not in taken)
        hosts: dict[str, t.Any] = {}
        for name, suite in self.wish.hosts.items():
            if name in was:
                hosts[name] = was[name]
                if was[name]["suite"] != suite:
                    raise LabError(
                        f"lab_suite: {name} of lab {self.wish.name} runs {was[name]['suite']}, not {suite}; "
                        "remove the lab first (lab_state: absent)"
                    )
            else:
                address = next(free, None)
                if address is None:
                    raise LabError(
                        f"lab_subnet: {subnet} has no address left for {name}: the HostOSes start at {subnet[FIRST_HOST]}"
                    )
                hosts[name] = {"address": address, "suite": suite, "rootfs": self._rootfs(suite).name}
        return hosts

    def _rootfs(self, suite: str) -> rootfs.RootFs:
        return rootfs.RootFs(self.top / "rootfs", suite, self.wish.sources, self.wish.packages)

    def _build_roots(self) -> None:
        """A HostOS stays on the root file system that it was made on: its own layer fits no other."""
        systems = {x.name: x for x in map(self._rootfs, set(self.wish.hosts.values()))}
        for name in sorted({x["rootfs"] for x in self.record["hosts"].values()}):
            if name in systems:
                systems[name].ensure(self.report)
            elif not (self.top / "rootfs" / name).exists():
                raise LabError(
                    f"{self.top}/rootfs/{name} is gone, and lab {self.wish.name} stands on it; "
                    "remove the lab (lab_state: absent) and bring it up again"
                )

    def _save(self) -> None:
        write(self.directory / "lab.json", json.dumps(self.record, indent=1))

    def _machine(self, name: str) -> machine.Machine:
        host, subnet = self.record["hosts"][name], ipaddress.IPv4Network(self.record["subnet"])
        return machine.Machine(
            lab=self.wish.name,
            directory=self.directory,
            name=name,
            address=ipaddress.IPv4Interface(f"{host['address']}/{subnet.prefixlen}"),
            gateway=str(subnet[1]),
            bridge=self.record["bridge"],
            rootfs=self.top / "rootfs" / host["rootfs"],
            nameservers=tuple(self.wish.nameservers),
        )

    def _packages(self, suite: str) -> pathlib.Path:
        """Where the package files of a suite are kept between labs."""
        return self.top / "packages" / suite

    def _start_all(self) -> None:
        machines = [self._machine(name) for name in self.record["hosts"]]
        keys = sshkeys.Keys(self.directory)
        if not self.report.check:
            keys.ensure({x.name: str(x.address.ip) for x in machines}, self.wish.owner)
        waiting = [x for x in machines if x.running()]
        starting = [x for x in machines if x not in waiting and self.report.will(f"start {x.name}")]
        # They boot at once; more of them than this at a time only wait for each other's processor and disk.
        with concurrent.futures.ThreadPoolExecutor(max_workers=4 * (os.cpu_count() or 1)) as pool:
            futures = [pool.submit(self._start, x, keys) for x in starting]
            if not self.report.check:
                futures += [pool.submit(x.wait, None, self.wish.wait_timeout) for x in waiting]
            errors = [str(error) for future in futures if (error := future.exception())]
        if errors:
            raise LabError("\n".join(errors))

    def _start(self, host: machine.Machine, keys: sshkeys.Keys) -> None:
        lines = [f"{x['address']} {name}" for name, x in self.record["hosts"].items()]
        host.prepare(lines, self._packages(self.record["hosts"][host.name]["suite"]))
        keys.close_connections(str(host.address.ip))
        host.wait(host.start(self._lock), self.wish.wait_timeout)

    def _inventory(self) -> dict[str, t.Any]:
        keys = sshkeys.Keys(self.directory)
        return {
            "hosts": {name: x["address"] for name, x in self.record["hosts"].items()},
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
        if not self.wish.keep_cache:
            self._remove_cache()

    def _down(self) -> None:
        for name in sorted(self.record["hosts"]):
            self._remove_host(name)
        network.remove_nat(self.wish.name, self.report)
        network.remove_bridge(self.record["bridge"], self.report)
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
            shutil.rmtree(home)

    def _remove_cache(self) -> None:
        """Remove root file systems and packages if no lab is left under the lab directory."""
        if not self.top.exists() or (self.top / "labs").exists() and any((self.top / "labs").iterdir()):
            return
        if self.report.will(f"remove {self.top} with its caches"):
            shutil.rmtree(self.top)
