# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks for, checked before anything is touched. Errors name the role's variable; all come at once."""

from __future__ import annotations

import dataclasses
import ipaddress
import pathlib
import re
import typing as t

from .base import LabError

_LAB = re.compile(r"[a-z][a-z0-9-]{0,10}")  # its bridge is lab-NAME, and a link's name has at most 15 characters
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SUITE = re.compile(r"[a-z][a-z0-9-]*")
_DIRECTORY = re.compile(
    r"/[A-Za-z0-9._/-]{1,50}"
)  # no , or : (overlay options); short, for the path of a socket below it
_MEMORY = re.compile(r"([0-9]+) ?([MG])iB")
_SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)? ?[KMGTP]i?B")

#: A container with systemd, or a whole computer with a boot loader and a kernel of its own.
MACHINES = ("nspawn", "qemu")
_KEYS = {"name", "suite", "capacity", "machine", "memory", "processors"}

#: The first HostOS's place in the subnet; what is below and above is free for guests.
FIRST_HOST = 11


@dataclasses.dataclass(frozen=True)
class HostWish:
    """A HostOS: its Debian release, and what the inventory says that it offers (as the user wrote it)."""

    suite: str
    capacity: t.Mapping[str, t.Any]
    machine: str = "nspawn"  #: of MACHINES
    memory: int = 2048  #: MiB, of a machine in QEMU
    processors: int = 1  #: of a machine in QEMU


@dataclasses.dataclass(frozen=True)
class Wish:
    """A lab. `inventory` is the file that the role writes; it is the lab's if it has the line `marker`."""

    name: str
    directory: str
    subnet: ipaddress.IPv4Network
    hosts: t.Mapping[str, HostWish]
    inventory: pathlib.Path
    marker: str
    sources: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    wait_timeout: float = 120
    remove_hosts: bool = False
    keep_cache: bool = True
    disks: t.Mapping[str, str] = dataclasses.field(default_factory=dict)  #: suite -> disk for machines in QEMU

    @property
    def bridge(self) -> str:
        return f"lab-{self.name}"


def parse(data: t.Mapping[str, t.Any]) -> Wish:
    """The role's variables without their prefix (releases of Ansible before 2.19 hand numbers on as text)."""
    errors: list[str] = []
    if not _LAB.fullmatch(data["name"]):
        errors.append(f"lab_name: {data['name']!r} is not 1 to 11 of a-z, 0-9 and -, beginning with a letter")
    if not _DIRECTORY.fullmatch(data["dir"]):
        errors.append(f"lab_dir: {data['dir']!r} is not an absolute path of at most 51 of A-Z, a-z, 0-9 and . _ / -")
    hosts = _hosts(data, errors)
    subnet = _subnet(data["subnet"], len(hosts), errors)
    if errors:
        raise LabError("\n".join(dict.fromkeys(errors)))  # each once
    return Wish(
        name=data["name"],
        directory=data["dir"],
        subnet=subnet,
        hosts=hosts,
        inventory=pathlib.Path(data["inventory"]),
        marker=data["marker"],
        sources=tuple(data["sources"]),
        packages=tuple(data["packages"]),
        nameservers=tuple(data["nameservers"]),
        wait_timeout=float(data["wait_timeout"]),
        remove_hosts=data["remove_hosts"],
        keep_cache=data["keep_cache"],
        disks=dict(data.get("disks") or {}),
    )


def _subnet(text: str, hosts: int, errors: list[str]) -> ipaddress.IPv4Network:
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        errors.append(f"lab_subnet: {text!r} is not an IPv4 network: {error}")
        return ipaddress.IPv4Network("0.0.0.0/0")
    room = subnet.num_addresses - 1 - FIRST_HOST
    if not 16 <= subnet.prefixlen <= 27:
        errors.append(f"lab_subnet: {text} has a prefix of /{subnet.prefixlen}; it can be /16 to /27")
    elif hosts > room:
        errors.append(f"lab_subnet: {text} has room for {room} HostOSes ({subnet[FIRST_HOST]} and up), not for {hosts}")
    return subnet


def _hosts(data: t.Mapping[str, t.Any], errors: list[str]) -> dict[str, HostWish]:
    hosts: dict[str, HostWish] = {}
    for entry in _entries(data["hosts"], errors):
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, dict) or not {"name"} <= set(entry) <= _KEYS:
            errors.append(
                f"lab_hosts: {entry!r} is neither a name nor a mapping of name, suite, capacity, machine, memory "
                "and processors"
            )
            continue
        name, suite = entry["name"], entry.get("suite", data["suite"])
        where = f"lab_hosts: {name}"
        if not isinstance(name, str) or not _HOST.fullmatch(name) or name == "localhost":
            errors.append(f"lab_hosts: {name!r} is not 1 to 32 of a-z, 0-9 and - (and not localhost)")
        elif name in hosts:
            errors.append(f"{where}: the name stands twice")
        if not isinstance(suite, str) or not _SUITE.fullmatch(suite):
            whose = where if "suite" in entry else "lab_suite"
            errors.append(f"{whose}: the suite {suite!r} is not the code name of a Debian release")
        capacity = _capacity({**data["capacity"], **(entry.get("capacity") or {})}, where, errors)
        hosts[str(name)] = HostWish(suite, capacity, *_kind(entry, where, errors))
    if not hosts and not errors:
        errors.append(f"lab_hosts: {data['hosts']!r} names no HostOS: give names, or how many")
    return hosts


def _kind(entry: t.Mapping[str, t.Any], where: str, errors: list[str]) -> tuple[str, int, int]:
    """The kind of machine; of one in QEMU the MiB of memory and the processors."""
    kind, memory = entry.get("machine", MACHINES[0]), str(entry.get("memory", "2 GiB"))
    found = _MEMORY.fullmatch(memory)
    if kind not in MACHINES:
        errors.append(f"{where}: machine {kind!r}; allowed: {', '.join(MACHINES)}")
    for key in sorted({"memory", "processors"} & set(entry)) if kind == "nspawn" else ():
        errors.append(f"{where}: {key} is of machines in QEMU; this one sees all that the computer has")
    processors = str(entry.get("processors", 1))
    if not processors.isdigit() or int(processors) < 1:
        errors.append(f"{where}: processors {processors!r} is not a positive number")
        processors = "1"
    if found is None:
        errors.append(f"{where}: memory {memory!r} is not a size in MiB or GiB, like '2 GiB'")
        return str(kind), 0, int(processors)
    return str(kind), int(found[1]) * (1024 if found[2] == "G" else 1), int(processors)


def _entries(given: t.Any, errors: list[str]) -> list[t.Any]:
    """A number makes node01, node02, ...; on the command line names come with commas between them."""
    if isinstance(given, str) and not given.isdigit():
        return [x.strip() for x in given.split(",")]
    if isinstance(given, (int, str)) and not isinstance(given, bool):
        count = int(given)
        return [f"node{i:0{max(2, len(str(count)))}d}" for i in range(1, count + 1)]
    if isinstance(given, list):
        return given
    errors.append(f"lab_hosts: {given!r} is neither a list nor a number")
    return []


def _capacity(given: t.Mapping[str, t.Any], where: str, errors: list[str]) -> dict[str, t.Any]:
    for key in sorted(set(given) - {"vcpus", "memory", "disk"}):
        errors.append(f"{where}: capacity has no {key}; it has vcpus, memory and disk")
    if not str(given.get("vcpus", "")).isdigit() or int(given["vcpus"]) < 1:
        errors.append(f"{where}: capacity vcpus {given.get('vcpus')!r} is not a positive number")
        return {}
    for key in ("memory", "disk"):
        if not _SIZE.fullmatch(str(given.get(key, ""))):
            errors.append(f"{where}: capacity {key} {given.get(key)!r} is not a size with its unit, like '4 GiB'")
    return {"vcpus": int(given["vcpus"]), **{key: given.get(key) for key in ("memory", "disk")}}
