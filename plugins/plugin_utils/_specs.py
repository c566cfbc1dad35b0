# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From definition and ledger to guest specs: what each HostOS is told. Nothing is decided here."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
import typing as t

from ..module_utils._paths import KERNEL_FILES
from ..module_utils._spec import CpuSpec, DiskSpec, GuestSpec, NicSpec, SeedSpec
from ._addresses import with_prefix
from ._ledger_rows import GuestRow, LedgerState, NicRow
from ._model import Cluster, Guest, HostPartition, IPAddress


class SpecProblem(Exception):
    """A spec that cannot be made; the message names the guest, what is missing and what to do."""


def specs(
    cluster: Cluster, state: LedgerState, *, recreate: t.Collection[str] = (), absent: bool = False
) -> dict[str, list[GuestSpec]]:
    """Every HostOS with the guests that belong there, in the order of the definition.

    `recreate`: names with consent to be made again; `absent`: all of them are to go (teardown). A guest whose move is
    in flight is in no list: nobody knows where it belongs until it is settled. Raises SpecProblem.
    """
    answer: dict[str, list[GuestSpec]] = {name: [] for name in cluster.hosts}
    nics = nics_of(state)
    rows = {row.name: row for row in state.guests.values() if row.state != "released"}
    for guest in cluster.guests.values():
        row = rows.get(guest.name)
        if row is None or row.host not in answer or row.uuid in state.moves or (row.state == "leaving") != absent:
            continue
        spec = _spec(cluster, state, guest, row, nics.get(row.uuid, []), guest.name in recreate)
        if absent:
            spec = _gone(spec)
        elif boots_kernel(cluster, guest) and row.build_id is not None and guest.state != "absent":
            spec = dataclasses.replace(spec, command_line=_command_line(state, guest, row.build_id))
        answer[row.host].append(spec)
    return answer


def boots_kernel(cluster: Cluster, guest: Guest) -> bool:
    """Whether the definition's image of the guest says `boot: kernel`."""
    image = cluster.images.get(guest.image)
    return image is not None and image.boots_kernel


def _command_line(state: LedgerState, guest: Guest, build_id: str) -> str:
    """Of the build that the guest's disk stands on; a kernel whose checksum is not known is not fetched."""
    row = state.builds.get(build_id)
    manifest = row.manifest if row else {}
    sums = manifest.get("sha256") or {}
    if not manifest.get("command_line") or not all(sums.get(name) for name in KERNEL_FILES):
        why = "has no kernel beside its disk (imported, or built before kernels had checksums)" if row else "is unknown"
        raise SpecProblem(
            f"guest {guest.name}: its image {guest.image} says boot: kernel, but its build {build_id[:12]} {why} to the"
            " ledger: run oscarv.virt.image; a guest that is there already wants oscarv.virt.rebuild too, or say"
            " boot: disk"
        )
    return str(manifest["command_line"])


def nics_of(state: LedgerState) -> dict[str, list[NicRow]]:
    """The NICs that guests have now, by uuid, in order: not detached, not resting."""
    found: dict[str, list[NicRow]] = {}
    for nic in state.nics.values():
        if nic.position >= 0 and nic.free_after is None:
            found.setdefault(nic.guest, []).append(nic)
    for rows in found.values():
        rows.sort(key=lambda nic: nic.position)
    return found


def _gone(spec: GuestSpec) -> GuestSpec:
    return dataclasses.replace(spec, state="absent", seed=None)


def _spec(
    cluster: Cluster, state: LedgerState, guest: Guest, row: GuestRow, nics: list[NicRow], recreate: bool
) -> GuestSpec:
    host = cluster.hosts[t.cast(str, row.host)]
    contacted = row.first_contact is not None
    seed = SeedSpec(guest.name, guest.authorized_keys, guest.cloud_init)
    key = state.host_keys.get(row.uuid)
    return GuestSpec(
        cluster=cluster.name,
        name=guest.name,
        uuid=row.uuid,
        partition=guest.partition,
        epoch=row.epoch,
        hypervisor=host.hypervisor,
        state=guest.state,
        vcpus=guest.vcpus,
        memory=guest.memory,
        disks=_disks(cluster, guest, row),
        nics=_nics(cluster, guest.name, nics),
        cpu=_cpu(guest, cluster.host_partitions[host.partition], state),
        firmware=guest.firmware,
        autostart=guest.autostart,
        seed=None if contacted else seed,
        first_contact=contacted,
        host_key=key.key if key else None,
        recreate=recreate,
        xen_type=guest.xen_type,
    )


def _disks(cluster: Cluster, guest: Guest, row: GuestRow) -> tuple[DiskSpec, ...]:
    return tuple(
        DiskSpec(
            name=disk.name,
            size=disk.size,
            pool=disk.pool,
            shared=cluster.pools[disk.pool].shared,
            build_id=None if number else row.build_id,
            format=disk.format,
        )
        for number, disk in enumerate(guest.disks)
    )


def _nics(cluster: Cluster, name: str, rows: list[NicRow]) -> tuple[NicSpec, ...]:
    """The first NIC of a network with a gateway has the default route of that family."""
    routed: set[int] = set()
    specs_ = []
    for number, row in enumerate(rows):
        if row.network not in cluster.networks:
            raise SpecProblem(
                f"guest {name}: the ledger has a NIC in network {row.network}, which the definition no longer has: run"
                " oscarv.virt.deploy first"
            )
        network = cluster.networks[row.network]
        has = {ipaddress.ip_address(address).version for address in row.addresses}
        gateways = [gateway for gateway in network.gateway if gateway.version in has - routed]
        routed |= {gateway.version for gateway in gateways}
        specs_.append(
            NicSpec(
                name=f"eth{number}",
                network=network.name,
                mac=row.mac,
                bridge=network.device,
                addresses=tuple(with_prefix(address, network) for address in row.addresses),
                gateways=_texts(gateways),
                nameservers=_texts(network.nameservers),
                mtu=network.mtu,
            )
        )
    return tuple(specs_)


def _texts(addresses: t.Iterable[IPAddress]) -> tuple[str, ...]:
    return tuple(str(address) for address in addresses)


def _cpu(guest: Guest, partition: HostPartition, state: LedgerState) -> CpuSpec:
    """`baseline` is what every HostOS of the partition can; the playbook `hostos` computes and records it."""
    if guest.cpu_model != "baseline":
        return CpuSpec(guest.cpu_model)
    for name in partition.members:
        row = state.hosts.get(name)
        found = row.cpu.get("baseline") if row else None
        if isinstance(found, t.Mapping) and found.get("model"):
            features = found.get("features") or {}
            if not isinstance(features, t.Mapping):
                features = dict.fromkeys(features, "require")
            return CpuSpec(str(found["model"]), {str(name): str(policy) for name, policy in features.items()})
    raise SpecProblem(
        f"guest {guest.name}: cpu_model baseline: no baseline is recorded for host partition {partition.name}: run"
        " oscarv.virt.hostos"
    )


def spec_hash(guest: Guest, row: GuestRow, nics: list[NicRow], *, kernel: bool = False) -> str:
    """Changes when what a guest is told changes; without its host and epoch (a move is no new wish) and secrets."""
    seen = [
        guest.partition,
        guest.state,
        guest.vcpus,
        guest.memory,
        [[disk.name, disk.size, disk.pool, *(["raw"] if disk.format == "raw" else [])] for disk in guest.disks],
        row.build_id,
        [[nic.mac, nic.network, list(nic.addresses)] for nic in nics],
        guest.cpu_model,
        guest.firmware,
        guest.autostart,
        *([guest.xen_type] if guest.xen_type else []),  # appended, so that it changes no hash that is recorded
        *(["boot: kernel"] if kernel else []),
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]
