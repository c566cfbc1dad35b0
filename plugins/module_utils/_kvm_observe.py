# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading all domains of a HostOS: lists in bulk (states, autostart, persistence), XML one by one as libvirt has it."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t
import xml.etree.ElementTree as ET

from ._driver import Mark, Observation, Seen
from ._kvm_connection import error_name, require_libvirt, told, unless
from ._kvm_mark import read_mark
from ._kvm_parse import Disk, View, parse, restart_required, view
from ._paths import disk_name_of
from ._qcow2 import read_header

#: virDomainPausedReason and virDomainRunningReason of a domain that is on its way between two HostOSes.
_PAUSED_MOVING = ("VIR_DOMAIN_PAUSED_MIGRATION", "VIR_DOMAIN_PAUSED_POSTCOPY", "VIR_DOMAIN_PAUSED_POSTCOPY_FAILED")
_RUNNING_MOVING = ("VIR_DOMAIN_RUNNING_POSTCOPY", "VIR_DOMAIN_RUNNING_POSTCOPY_FAILED")
#: virDomainJobOperation of a move.
_MOVES = ("VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN", "VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT")


#: Xen's own control domain, which libvirt lists like a guest.
DOM0 = "00000000-0000-0000-0000-000000000000"


@dataclasses.dataclass(frozen=True)
class Native:
    """What the driver itself keeps of a domain that it saw."""

    domain: t.Any  #: virDomain
    config: View  #: persistent; of a transient domain what runs
    live: View | None  #: None: not running
    xml: ET.Element  #: persistent configuration without secrets: never define this one
    suspended: bool = False  #: the guest put itself to sleep (ACPI S3)
    active: bool = False
    managed_save: bool = False  #: its memory lies in a file, and a start goes on from there
    job: str | None = None  #: a libvirt job that runs now: migration_out, backup, ...


@dataclasses.dataclass(frozen=True)
class _Lists:
    """What libvirt tells of all domains at once."""

    states: dict[str, tuple[int, int]]
    autostart: frozenset[str]
    persistent: frozenset[str]
    managed_save: frozenset[str]


def pool_paths(connection: t.Any) -> dict[str, str]:
    """Name -> directory of every active storage pool that has one."""
    lib = require_libvirt()
    paths = {}
    with told("(all)", "list the storage pools"):
        for pool in connection.listAllStoragePools(lib.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
            path = parse(pool.XMLDesc()).findtext("target/path")
            if path:
                paths[pool.name()] = path
    return paths


def observe_all(connection: t.Any, pools: t.Mapping[str, str]) -> Observation:
    """Everything on this HostOS. `pools` as `pool_paths` gives it."""
    lib = require_libvirt()
    with told("(all)", "list the domains"):
        states = _states(connection)
        lists = _Lists(
            states={domain.UUIDString(): state for domain, state in states},
            autostart=_uuids(connection, lib.VIR_CONNECT_LIST_DOMAINS_AUTOSTART),
            persistent=_uuids(connection, lib.VIR_CONNECT_LIST_DOMAINS_PERSISTENT),
            managed_save=_uuids(connection, lib.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE),
        )
        seen = [_read(domain, lists, pools) for domain, _state in states]
    present = [guest for guest in seen if guest is not None]
    return Observation(
        guests={guest.uuid: guest for guest in present if guest.mark is not None},
        foreign=tuple(guest for guest in present if guest.mark is None),
    )


def _states(connection: t.Any) -> list[tuple[t.Any, tuple[int, int]]]:
    """Every domain with its state and the reason for it: in one call, or domain by domain where libvirt has no such."""
    lib = require_libvirt()
    try:
        stats = connection.getAllDomainStats(lib.VIR_DOMAIN_STATS_STATE)
        return [(domain, (found.get("state.state", 0), found.get("state.reason", 0))) for domain, found in stats]
    except lib.libvirtError as error:
        if error_name(error) != "VIR_ERR_NO_SUPPORT":
            raise
    states = []
    for domain in connection.listAllDomains(0):
        if domain.UUIDString() != DOM0:
            with unless("VIR_ERR_NO_DOMAIN"):  # went away since the list was made
                states.append((domain, tuple(domain.state())))
    return states


def observe_one(connection: t.Any, uuid: str, pools: t.Mapping[str, str]) -> Seen | None:
    """One domain as it is now; None if it is not there."""
    lib = require_libvirt()
    with told(uuid, "read its state"):
        try:
            domain = connection.lookupByUUIDString(uuid)
            state, reason = domain.state()
            lists = _Lists(
                states={uuid: (state, reason)},
                autostart=frozenset([uuid] if domain.autostart() else []),
                persistent=frozenset([uuid] if domain.isPersistent() else []),
                managed_save=frozenset([uuid] if domain.hasManagedSaveImage() else []),
            )
        except lib.libvirtError as error:
            if error_name(error) == "VIR_ERR_NO_DOMAIN":
                return None
            raise
        return _read(domain, lists, pools)


def snapshots_of(domain: t.Any) -> int:
    """How many snapshots libvirt keeps of a domain; none where its driver has no such thing."""
    lib = require_libvirt()
    try:
        return int(domain.snapshotNum())
    except lib.libvirtError as error:
        if error_name(error) == "VIR_ERR_NO_SUPPORT":
            return 0
        raise


def _uuids(connection: t.Any, flag: int) -> frozenset[str]:
    return frozenset(domain.UUIDString() for domain in connection.listAllDomains(flag))


def _read(domain: t.Any, lists: _Lists, pools: t.Mapping[str, str]) -> Seen | None:
    lib = require_libvirt()
    uuid = domain.UUIDString()
    code, reason = lists.states[uuid]
    persistent = uuid in lists.persistent
    active = code not in (lib.VIR_DOMAIN_SHUTOFF, lib.VIR_DOMAIN_NOSTATE) and domain.ID() != -1
    try:
        config_xml = parse(domain.XMLDesc(lib.VIR_DOMAIN_XML_INACTIVE if persistent else 0))
        live = view(parse(domain.XMLDesc(0))) if active else None
        job = _job(domain) if active else None
    except lib.libvirtError as error:
        if error_name(error) == "VIR_ERR_NO_DOMAIN":  # went away since the list was made
            return None
        raise
    config = view(config_xml)
    mark = read_mark(config_xml)
    return Seen(
        name=domain.name(),
        uuid=uuid,
        state=_state(code, reason, job, saved=uuid in lists.managed_save),
        mark=mark,
        vcpus=config.vcpus,
        memory=config.memory_max,
        vcpus_live=live.vcpus if live else None,
        memory_live=live.memory if live else None,
        autostart=uuid in lists.autostart,
        persistent=persistent,
        restart_required=live is not None and restart_required(config, live),
        disks=tuple(
            _disk(disk, mark, pools) for disk in config.disks if disk.device == "disk" and disk is not config.drive
        ),
        nics=tuple(dataclasses.asdict(nic) for nic in config.nics),
        seed=config.drive.path if config.drive else None,
        console_log=config.console_log,
        native=Native(
            domain,
            config,
            live,
            config_xml,
            suspended=code == lib.VIR_DOMAIN_PMSUSPENDED,
            active=active,
            managed_save=uuid in lists.managed_save,
            job=job,
        ),
    )


def _state(code: int, reason: int, job: str | None, *, saved: bool) -> str:
    """One of Seen.state for libvirt's state, its reason and the job that runs."""
    lib = require_libvirt()
    if job in ("migration_in", "migration_out"):
        return "moving"
    if code == lib.VIR_DOMAIN_PAUSED and reason in _codes(_PAUSED_MOVING):
        return "moving"
    if code == lib.VIR_DOMAIN_RUNNING and reason in _codes(_RUNNING_MOVING):
        return "moving"
    if code in (lib.VIR_DOMAIN_PAUSED, lib.VIR_DOMAIN_PMSUSPENDED):
        return "paused"
    if code == lib.VIR_DOMAIN_CRASHED or (code == lib.VIR_DOMAIN_SHUTOFF and reason == lib.VIR_DOMAIN_SHUTOFF_CRASHED):
        return "crashed"
    if code in (lib.VIR_DOMAIN_SHUTOFF, lib.VIR_DOMAIN_NOSTATE):
        return "saved" if saved else "stopped"
    return "running"


def _codes(names: tuple[str, ...]) -> set[int]:
    """The values of libvirt constants, as far as this libvirt module has them."""
    lib = require_libvirt()
    return {getattr(lib, name) for name in names if hasattr(lib, name)}


def _job(domain: t.Any) -> str | None:
    """The name of the libvirt job that runs on an active domain: migration_out, backup, ..."""
    lib = require_libvirt()
    try:
        stats = domain.jobStats()
    except lib.libvirtError as error:
        if error_name(error) in ("VIR_ERR_NO_SUPPORT", "VIR_ERR_OPERATION_INVALID"):
            return None  # the simulator has no jobs; a domain that stopped meanwhile has none either
        raise
    if stats.get("type", 0) == lib.VIR_DOMAIN_JOB_NONE:
        return None
    prefix = "VIR_DOMAIN_JOB_OPERATION_"
    names = {getattr(lib, name): name[len(prefix) :] for name in dir(lib) if name.startswith(prefix)}
    return names.get(stats.get("operation"), "UNKNOWN").lower()


def _disk(disk: Disk, mark: Mark | None, pools: t.Mapping[str, str]) -> dict[str, t.Any]:
    header = read_header(disk.path) if disk.path else None
    return {
        "name": (disk_name_of(disk.path, mark.cluster, mark.guest) if mark else None) or disk.serial or disk.target,
        "target": disk.target,
        "path": disk.path,
        "pool": pool_of(disk.path, pools),
        "size": header.size if header else None,
        "backing": header.backing if header else None,
    }


def pool_of(path: str | None, pools: t.Mapping[str, str]) -> str | None:
    """The pool in whose directory `path` lies; the deepest one where pools are nested."""
    if path is None:
        return None
    parents = pathlib.PurePosixPath(path).parents
    found = [(len(directory), name) for name, directory in pools.items() if pathlib.PurePosixPath(directory) in parents]
    return max(found)[1] if found else None


def qemu_processes(uuid: str, proc: str = "/proc") -> list[int]:
    """Process ids of every QEMU with this guest's uuid, whoever started it."""
    needle = b"\0-uuid\0" + uuid.encode() + b"\0"
    found = []
    for path in pathlib.Path(proc).glob("[0-9]*/cmdline"):
        try:
            if needle in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # ended meanwhile
            continue
    return found
