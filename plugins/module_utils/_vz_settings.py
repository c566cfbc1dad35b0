# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's spec in the words of OpenVZ, what a container's configuration says of the same, and the difference."""

from __future__ import annotations

import dataclasses
import typing as t

from ._difference import Difference
from ._driver import DriverError, Unsupported
from ._spec import GuestSpec
from ._vz_argv import Settings, host_of, text_of
from ._vz_conf import PAGE, disk_of, memory_of, number_of, swap_of
from ._vz_ids import device_of
from ._vz_netif import Veth, changes, read_netif, veth_of

KIB = 1024


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What the spec has no field for. None: left as it is."""

    swap: int = 0  #: bytes; VSwap wants a number, also for none
    cpu_limit: int | None = None  #: per cent of one CPU; 0: no limit
    cpu_units: int | None = None  #: share


@dataclasses.dataclass(frozen=True)
class Shape:
    """Everything that is compared; None: not set, or left as it is. Sizes in bytes."""

    memory: int | None
    swap: int | None
    vcpus: int | None
    cpu_limit: int | None
    cpu_units: int | None
    disk: int | None
    nics: tuple[Veth, ...]
    hostname: str | None
    nameservers: tuple[str, ...] | None
    name: str | None
    autostart: bool | None


def refuse(spec: GuestSpec) -> None:
    """Unsupported names the wish that a container cannot have, and who can."""
    who = f"guest {spec.name}"
    if spec.firmware != "bios":
        raise Unsupported(f"{who}: firmware {spec.firmware!r}: a container has no firmware; hypervisors with uefi: kvm")
    if spec.command_line is not None:
        raise Unsupported(
            f"{who}: its image says boot: kernel; a container boots none, for its HostOS's kernel runs it (kvm and xen"
            " have it): use an image with boot: disk"
        )
    if spec.cpu.model != "default" or spec.cpu.features:
        raise Unsupported(f"{who}: cpu: a container sees the CPU of its HostOS; hypervisors with CPU models: kvm")
    if len(spec.disks) > 1:
        names = ", ".join(disk.name for disk in spec.disks[1:])
        raise Unsupported(f"{who}: disks {names}: hypervisor openvz has the root disk only; others: kvm")
    try:
        text_of("name", spec.name)
        host_of(hostname_of(spec))
    except DriverError as error:
        raise DriverError(f"{who}: {error}") from None


def hostname_of(spec: GuestSpec) -> str:
    return spec.seed.hostname if spec.seed else spec.name


def wanted(spec: GuestSpec, tuning: Tuning = Tuning()) -> Shape:
    """As the spec asks for it, rounded as the tools will round it."""
    device = device_of(spec.uuid)
    nics = tuple(
        veth_of(spec.name, device, index, name=nic.name, mac=nic.mac, bridge=nic.bridge)
        for index, nic in enumerate(spec.nics)
    )
    servers = tuple(dict.fromkeys(server for nic in spec.nics for server in nic.nameservers))
    return Shape(
        memory=_up(spec.memory, PAGE),
        swap=_up(tuning.swap, PAGE),
        vcpus=spec.vcpus,
        cpu_limit=tuning.cpu_limit,
        cpu_units=tuning.cpu_units,
        disk=_up(spec.root.size, KIB),
        nics=nics,
        hostname=hostname_of(spec),
        nameservers=servers or None,
        name=spec.name,
        autostart=spec.starts_with_host,
    )


def configured(conf: t.Mapping[str, str]) -> Shape:
    """As the configuration file has it."""
    return Shape(
        memory=memory_of(conf),
        swap=swap_of(conf),
        vcpus=number_of(conf, "CPUS"),
        cpu_limit=number_of(conf, "CPULIMIT"),
        cpu_units=number_of(conf, "CPUUNITS"),
        disk=disk_of(conf),
        nics=read_netif(conf.get("NETIF", "")),
        hostname=conf.get("HOSTNAME") or None,
        nameservers=tuple(conf.get("NAMESERVER", "").split()) or None,
        name=conf.get("NAME") or None,
        autostart=conf.get("ONBOOT") == "yes",
    )


def difference(found: Difference, before: Shape | None, after: Shape) -> Settings:
    """Record what differs, and return what `set` must be told: nothing else, so that a second run does nothing."""
    changed: dict[str, t.Any] = {}
    for field in dataclasses.fields(Shape):
        old = getattr(before, field.name) if before is not None else None
        new = getattr(after, field.name)
        if new is None or field.name == "nics":
            continue
        if found.compare(field.name, _plain(old), _plain(new)):
            changed[field.name] = new
    old_nics = before.nics if before is not None else ()
    found.compare("nics", _by_mac(old_nics) or None, _by_mac(after.nics) or None)
    add, delete = changes(old_nics, after.nics)
    # VSwap wants both, and vzctl takes one for an unfinished configuration (28) where the other was never set.
    if ("memory" in changed) != ("swap" in changed):
        changed.update(memory=after.memory, swap=after.swap)
    return Settings(**changed, nics_add=tuple(add), nics_del=tuple(delete))


def refuse_shrinking(spec: GuestSpec, before: Shape) -> None:
    """A smaller disk could lose data; nobody's disk is made smaller."""
    size = _up(spec.root.size, KIB)
    if before.disk is not None and size < before.disk:
        raise DriverError(
            f"guest {spec.name}: disks.root.size: found {before.disk} bytes, asked for {size}: a disk is never shrunk"
        )


def _by_mac(nics: t.Sequence[Veth]) -> dict[str, t.Any]:
    return {nic.mac: dataclasses.asdict(nic) for nic in nics}


def _plain(value: t.Any) -> t.Any:
    return list(value) if isinstance(value, tuple) else value


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
