# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The expanded definition: ranges written out, defaults filled in, everything checked. No Ansible, no database.

Made by `_definition` from a `*.oscarv.yml`; read by the inventory plugin, `assign` and the planner. All sizes are
bytes. All mappings keep the order of the definition.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

IPNetwork = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
IPAddress = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclasses.dataclass(frozen=True)
class Where:
    """Where in the definition something stands."""

    file: str
    line: int
    path: str  #: the key's path: partitions.workers.memory

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}"


@dataclasses.dataclass(frozen=True)
class Vaulted:
    """A `!vault` value, still encrypted; `_definition_vault.reveal` opens it just before a spec is made."""

    ciphertext: str


@dataclasses.dataclass(frozen=True)
class Network:
    name: str
    bridge: str
    ranges: tuple[IPNetwork, ...]
    vlan: int | None = None
    mtu: int | None = None
    gateway: tuple[IPAddress, ...] = ()  #: at most one per family
    reserved: tuple[tuple[IPAddress, IPAddress], ...] = ()  #: first and last, both included
    nameservers: tuple[IPAddress, ...] = ()
    realm: str = "default"  #: an IP is unique within its realm
    where: Where | None = None

    @property
    def device(self) -> str:
        """The bridge on the HostOS that guests attach to: a VLAN has a bridge of its own."""
        return self.bridge if self.vlan is None else f"{self.bridge}v{self.vlan}"


@dataclasses.dataclass(frozen=True)
class Pool:
    name: str
    type: str  #: dir | nfs
    path: str
    source: str | None = None  #: of nfs: server:/export
    shared: bool = False
    where: Where | None = None


@dataclasses.dataclass(frozen=True)
class Enclosure:
    name: str
    level: str
    parent: str | None
    members: tuple[str, ...]  #: hosts that stand directly in it
    where: Where | None = None


@dataclasses.dataclass(frozen=True)
class Resources:
    """An amount of what a host has and a guest needs. Disk counts local pools only."""

    vcpus: float
    memory: int
    disk: int


@dataclasses.dataclass(frozen=True)
class HostPartition:
    name: str
    hypervisor: str
    members: tuple[str, ...]
    overcommit_vcpus: float = 1.0
    reserve: Resources = Resources(0, 0, 0)
    capacity: Resources | None = None  #: of each member; None: what `hostos` measured and recorded
    pool: str = "local"  #: where root disks live unless the guest says otherwise
    where: Where | None = None


@dataclasses.dataclass(frozen=True)
class Host:
    name: str
    partition: str
    hypervisor: str
    enclosures: tuple[tuple[str, str], ...] = ()  #: (level, name), innermost first
    external: bool = False  #: belongs to another cluster (`uses:`): read-only


@dataclasses.dataclass(frozen=True)
class DiskDef:
    name: str
    size: int
    pool: str
    shared: bool = False  #: its pool is shared: the disk takes nothing from a host's own capacity
    format: str = "qcow2"  #: qcow2 | raw


@dataclasses.dataclass(frozen=True)
class NicDef:
    """A wish for a NIC; what is None here, `assign` decides and the ledger keeps."""

    network: str
    ip: tuple[IPAddress, ...] = ()
    mac: str | None = None


@dataclasses.dataclass(frozen=True)
class Tolerate:
    lose: int
    of: str  #: "host" or a level of enclosures


@dataclasses.dataclass(frozen=True)
class Spread:
    level: str
    soft: bool = False


@dataclasses.dataclass(frozen=True)
class Guest:
    """One guest with the partition's values and its own overrides merged."""

    name: str
    partition: str
    on: tuple[str, ...]  #: names of host partitions
    image: str
    vcpus: int
    memory: int
    disks: tuple[DiskDef, ...]  #: root first
    networks: tuple[NicDef, ...]
    state: str
    cpu_model: str = "default"  #: default | baseline | host-model | host-passthrough | a model name
    firmware: str = "bios"
    autostart: bool = True
    authorized_keys: tuple[str, ...] = ()
    cloud_init: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)  #: may hold Vaulted values
    renamed_from: str | None = None
    where: Where | None = None
    xen_type: str | None = None  #: pv | pvh | hvm; None: what the HostOS does best

    @property
    def demand(self) -> Resources:
        return Resources(self.vcpus, self.memory, sum(disk.size for disk in self.disks if not disk.shared))


@dataclasses.dataclass(frozen=True)
class GuestPartition:
    name: str
    image: str
    on: tuple[str, ...]
    members: tuple[str, ...]
    spread: Spread | None = None
    tolerate: tuple[Tolerate, ...] = ()
    roles: tuple[str, ...] = ()  #: applied inside the guests by `deploy`
    where: Where | None = None


@dataclasses.dataclass(frozen=True)
class Rule:
    """apart / together: `guests` over `over` ("host" or a level); pin: `guests` to `hosts`."""

    kind: str  #: apart | together | pin
    guests: tuple[str, ...]
    over: str = "host"
    hosts: tuple[str, ...] = ()
    soft: bool = False
    where: Where | None = None


@dataclasses.dataclass(frozen=True)
class Image:
    """A recipe. `options` are the builder's own keys, validated, plain data."""

    name: str
    builder: str  #: debian | import
    options: t.Mapping[str, t.Any]
    where: Where | None = None

    @property
    def boots_kernel(self) -> bool:
        """Whether guests boot the build's kernel from outside their disk."""
        return self.options.get("boot") == "kernel"


@dataclasses.dataclass(frozen=True)
class Cluster:
    name: str
    definition: str  #: absolute path of the root file
    ledger: str  #: URL without a password
    networks: t.Mapping[str, Network]
    pools: t.Mapping[str, Pool]
    enclosures: t.Mapping[str, Enclosure]
    host_partitions: t.Mapping[str, HostPartition]
    guest_partitions: t.Mapping[str, GuestPartition]
    hosts: t.Mapping[str, Host]
    guests: t.Mapping[str, Guest]
    rules: tuple[Rule, ...]
    images: t.Mapping[str, Image]
    max_release: float = 0.10  #: fraction of the guests that may leave at once without oscarv_confirm
    quarantine: int = 3600  #: seconds that a released address rests
    files: tuple[str, ...] = ()  #: every file that was read, root first
    constructed: bool = False  #: the inventory plugin has `compose`, `groups` or `keyed_groups` to evaluate
