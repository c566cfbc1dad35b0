# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest spec: everything that a HostOS has to know about one guest, and nothing about how it was decided.

The controller (`assign`) makes specs, modules receive them as plain data. Sizes are bytes as integers. Plain data
uses the field names below; a key that is not a field is refused, so that a newer controller never has a wish
silently dropped by an older module. The annotations are read at run time, on Python 3.9 too, hence `t.Optional`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t
import uuid as uuid_module

#: Hypervisors that have, or will have, a driver.
HYPERVISORS = ("kvm", "xen", "openvz", "lxc")
#: What a spec may ask of a guest's power. `saved`: it does not run, and a start goes on from its memory in a file;
#: `present` has no opinion, `absent` removes the guest.
POWER_STATES = ("running", "paused", "stopped", "saved")
STATES = (*POWER_STATES, "present", "absent")
DISK_FORMATS = ("qcow2", "raw")
FIRMWARES = ("bios", "uefi")
#: Xen's types of guests: paravirtual; paravirtual in a hardware container; with an emulated machine.
XEN_TYPES = ("pv", "pvh", "hvm")

_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$")
_MAC = re.compile(r"^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$")
_BUILD_ID = re.compile(r"^[0-9a-f]{64}$")
_COMMAND_LINE = re.compile(r"^[\x20-\x7e]{1,2000}$")
_HOST_KEY = re.compile(r"^ssh-ed25519 [A-Za-z0-9+/=]{1,200}$")
_BRIDGE = re.compile(r"^[A-Za-z0-9_.-]{1,15}$")


class SpecError(ValueError):
    """A spec that cannot be used; the message names the guest, the key, what was found and what is allowed."""


@dataclasses.dataclass(frozen=True)
class NicSpec:
    """A network interface. `bridge` is the device on the HostOS, VLAN already resolved."""

    name: str  #: name inside the guest: eth0, eth1, ... in the order of the list
    network: str  #: the definition's name of the network
    mac: str  #: lower case, colons
    bridge: str
    addresses: tuple[str, ...] = ()  #: "ADDRESS/PREFIX", IPv4 and IPv6
    gateways: tuple[str, ...] = ()  #: at most one per family; only on the NIC that has the default route
    nameservers: tuple[str, ...] = ()
    mtu: t.Optional[int] = None


@dataclasses.dataclass(frozen=True)
class DiskSpec:
    """A disk: the first is the root disk and is called `root`."""

    name: str
    size: int  #: bytes
    pool: str  #: name of the storage pool on the HostOS
    shared: bool = False  #: the pool is seen by every HostOS (a move copies nothing)
    build_id: t.Optional[str] = None  #: the build under the overlay; None for an empty disk
    format: str = "qcow2"  #: of DISK_FORMATS; a root disk is qcow2, for it stands on its build


@dataclasses.dataclass(frozen=True)
class CpuSpec:
    """The CPU that a guest sees.

    `model` is `default` (the driver's choice), `host-model`, `host-passthrough` or a model name of the
    hypervisor; `features` maps a CPU feature to `require` or `disable` and goes with a named model only.
    """

    model: str = "default"
    features: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SeedSpec:
    """What the first boot is told (cloud-init's NoCloud). The driver adds the host key it makes on the HostOS."""

    hostname: str
    authorized_keys: tuple[str, ...] = ()
    cloud_init: t.Mapping[str, t.Any] = dataclasses.field(
        default_factory=dict
    )  #: merged into user-data; may hold secrets


@dataclasses.dataclass(frozen=True)
class GuestSpec:
    """One guest on one HostOS."""

    cluster: str
    name: str
    uuid: str
    partition: str
    epoch: int  #: raised by every move; see the ledger
    hypervisor: str
    state: str
    vcpus: int
    memory: int  #: bytes
    disks: tuple[DiskSpec, ...]
    nics: tuple[NicSpec, ...] = ()
    cpu: CpuSpec = CpuSpec()
    firmware: str = "bios"
    autostart: bool = True
    seed: t.Optional[SeedSpec] = None
    first_contact: bool = False  #: the controller has reached the guest: its seed is ejected and deleted
    xen_type: t.Optional[str] = None  #: of XEN_TYPES; None: what the HostOS does best. Other hypervisors do not look
    #: Not None: the guest boots the kernel and initramfs of its build from outside its disk, with this command line.
    command_line: t.Optional[str] = None
    #: The public host key that the ledger has of the guest: it was made before. Only for one that comes up elsewhere.
    host_key: t.Optional[str] = None
    recreate: bool = False  #: consent to make the guest again, empty, after its HostOS was lost or for a rebuild

    @property
    def root(self) -> DiskSpec:
        return self.disks[0]

    @property
    def starts_with_host(self) -> bool:
        """A guest that shall be stopped, saved or paused does not come up running with its HostOS."""
        return self.autostart and self.state in ("running", "present")

    @classmethod
    def from_plain(cls, data: t.Mapping[str, t.Any]) -> GuestSpec:
        """Read and validate plain data; SpecError names what is wrong."""
        who = f"guest {data.get('name', '?')}" if isinstance(data, t.Mapping) else "guest ?"
        spec = t.cast(GuestSpec, _build(cls, data, who))
        _validate(spec)
        return spec

    def to_plain(self) -> dict[str, t.Any]:
        """Plain data that `from_plain` reads back to an equal spec."""
        return t.cast("dict[str, t.Any]", _plain(self))


def _plain(value: t.Any) -> t.Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, t.Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _build(cls: type, data: t.Any, where: str) -> t.Any:
    if not isinstance(data, t.Mapping):
        raise SpecError(f"{where}: expected a mapping, found {type(data).__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise SpecError(f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(fields)}")
    hints = t.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SpecError(f"{where}: key {name!r} is missing")
    return cls(**values)


def _convert(hint: t.Any, value: t.Any, where: str) -> t.Any:
    origin = t.get_origin(hint)
    if origin is t.Union:
        inner = [arg for arg in t.get_args(hint) if arg is not type(None)]
        return None if value is None else _convert(inner[0], value, where)
    if dataclasses.is_dataclass(hint):
        return _build(t.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SpecError(f"{where}: expected a list, found {type(value).__name__}")
        inner_hint = t.get_args(hint)[0]
        return tuple(_convert(inner_hint, item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is not None and issubclass(origin, t.Mapping):
        if not isinstance(value, t.Mapping):
            raise SpecError(f"{where}: expected a mapping, found {type(value).__name__}")
        return dict(value)
    if hint is str and isinstance(value, str):
        return str(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise SpecError(f"{where}: expected {hint.__name__}, found {value!r}")


def _validate(spec: GuestSpec) -> None:
    who = f"guest {spec.name}"

    def check(good: bool, key: str, found: t.Any, allowed: str) -> None:
        if not good:
            raise SpecError(f"{who}: {key}: found {found!r}; allowed: {allowed}")

    check(bool(_NAME.fullmatch(spec.name)), "name", spec.name, "a DNS name in lower case, at most 63 characters")
    check(_is_uuid(spec.uuid), "uuid", spec.uuid, "a UUID in lower case with dashes")
    check(spec.epoch >= 1, "epoch", spec.epoch, "1 or more")
    check(spec.hypervisor in HYPERVISORS, "hypervisor", spec.hypervisor, ", ".join(HYPERVISORS))
    check(spec.state in STATES, "state", spec.state, ", ".join(STATES))
    check(spec.firmware in FIRMWARES, "firmware", spec.firmware, ", ".join(FIRMWARES))
    check(spec.xen_type in (None, *XEN_TYPES), "xen_type", spec.xen_type, ", ".join(XEN_TYPES))
    if spec.host_key is not None:
        check(bool(_HOST_KEY.fullmatch(spec.host_key)), "host_key", spec.host_key, "a public key: ssh-ed25519 AAAA...")
    if spec.command_line is not None:
        allowed = "at most 2000 printable ASCII characters"
        check(bool(_COMMAND_LINE.fullmatch(spec.command_line)), "command_line", spec.command_line, allowed)
        allowed = "with command_line, the build whose kernel is booted"
        check(spec.disks[0].build_id is not None if spec.disks else False, "disks.root.build_id", None, allowed)
    check(spec.vcpus >= 1, "vcpus", spec.vcpus, "1 or more")
    check(spec.memory >= 16 * 2**20, "memory", spec.memory, "at least 16 MiB, in bytes")
    check(
        bool(spec.disks) and spec.disks[0].name == "root",
        "disks",
        [d.name for d in spec.disks],
        "the first disk is 'root'",
    )
    check(len({d.name for d in spec.disks}) == len(spec.disks), "disks", [d.name for d in spec.disks], "each name once")
    for disk in spec.disks:
        check(bool(_NAME.fullmatch(disk.name)), f"disks.{disk.name}.name", disk.name, "a DNS label in lower case")
        check(disk.size >= 2**20, f"disks.{disk.name}.size", disk.size, "at least 1 MiB, in bytes")
        formats = DISK_FORMATS[:1] if disk.name == "root" else DISK_FORMATS
        check(disk.format in formats, f"disks.{disk.name}.format", disk.format, ", ".join(formats))
        check(
            disk.build_id is None or bool(_BUILD_ID.fullmatch(disk.build_id)),
            f"disks.{disk.name}.build_id",
            disk.build_id,
            "64 hexadecimal digits",
        )
    check(len({n.mac for n in spec.nics}) == len(spec.nics), "nics", [n.mac for n in spec.nics], "each MAC once")
    for nic in spec.nics:
        check(
            bool(_MAC.fullmatch(nic.mac)),
            f"nics.{nic.name}.mac",
            nic.mac,
            "six hexadecimal pairs in lower case with colons",
        )
        check(
            bool(_BRIDGE.fullmatch(nic.bridge)),
            f"nics.{nic.name}.bridge",
            nic.bridge,
            "a network device name, at most 15 characters",
        )
        for address in nic.addresses:
            check(_is_interface(address), f"nics.{nic.name}.addresses", address, "ADDRESS/PREFIX")


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid_module.UUID(text)) == text
    except ValueError:
        return False


def _is_interface(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text
