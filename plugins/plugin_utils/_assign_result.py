# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action `assign` returns, as plain data: everything that the following tasks need, and no secret."""

from __future__ import annotations

import posixpath
import typing as t

from ..module_utils._difference import Difference
from ..module_utils._paths import KERNEL_FILES
from ..module_utils._spec import GuestSpec
from ._assign import Decision
from ._assign_observed import prunable
from ._ledger_rows import BuildRow, LedgerState
from ._ledger_seen import read_sights
from ._model import Cluster, Vaulted
from ._report import plain_plan, plan_lines
from ._specs import boots_kernel, nics_of, specs

#: Stands for a vaulted value until the action `guest` opens it, on its way into the module.
VAULTED = "oscarv_vaulted"
#: For so many guests without a place the result tells each host's reason; the plan file has all.
DETAILS = 20


def result_of(
    cluster: Cluster,
    decision: Decision,
    selected: list[str] | None,
    observed: t.Mapping[str, t.Any] | None,
    *,
    teardown: bool = False,
) -> dict[str, t.Any]:
    """Everything but `changed` and `diff`."""
    state = decision.after
    made = specs(cluster, state, recreate=decision.recreate, absent=teardown)
    return {
        "specs": {host: [plain_spec(spec) for spec in found] for host, found in made.items()},
        "builds": {host: builds_for(cluster, state, host, found) for host, found in made.items()},
        "idle_builds": {host: idle_builds(cluster, state, host, found) for host, found in made.items()},
        "tombstones": idle_tombstones(cluster, state, observed, teardown=teardown),
        "prunable": prunable(cluster, state, observed),
        "selected": selected,
        "plan": plain_plan(decision.plan, details=DETAILS),
        "report": plan_lines(decision.problem, decision.plan),
        "guests": guests_of(cluster, state),
        "roles": {part.name: list(part.roles) for part in cluster.guest_partitions.values() if part.roles},
        "revision": state.revision,
    }


def plain_spec(spec: GuestSpec) -> dict[str, t.Any]:
    """The spec as plain data; vaulted values stay encrypted."""
    plain = spec.to_plain()
    if spec.seed and spec.seed.cloud_init:
        plain["seed"]["cloud_init"] = sealed(spec.seed.cloud_init)
    return plain


def sealed(value: t.Any) -> t.Any:
    """A copy with every Vaulted value as {VAULTED: ciphertext}."""
    if isinstance(value, Vaulted):
        return {VAULTED: value.ciphertext}
    if isinstance(value, t.Mapping):
        return {str(key): sealed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sealed(item) for item in value]
    return value


def unsealed(value: t.Any) -> tuple[t.Any, bool]:
    """The reverse of `sealed`, and whether there was any Vaulted value."""
    if isinstance(value, t.Mapping):
        if set(value) == {VAULTED}:
            return Vaulted(str(value[VAULTED])), True
        pairs = {key: unsealed(item) for key, item in value.items()}
        return {key: item for key, (item, _found) in pairs.items()}, any(found for _item, found in pairs.values())
    if isinstance(value, (list, tuple)):
        items = [unsealed(item) for item in value]
        return [item for item, _found in items], any(found for _item, found in items)
    return value, False


def builds_for(cluster: Cluster, state: LedgerState, host: str, found: t.Sequence[GuestSpec]) -> list[dict[str, t.Any]]:
    """The builds that must lie on a HostOS before its guests are made, one entry per pool."""
    wanted = {(spec.root.build_id, spec.root.pool) for spec in found if spec.root.build_id and spec.state != "absent"}
    kernels = builds_with_kernel(cluster, state)
    answer = []
    for build_id, pool in sorted((str(build_id), pool) for build_id, pool in wanted):
        row = state.builds.get(build_id)
        path = posixpath.join(cluster.pools[pool].path, "builds", f"{build_id}.qcow2")
        answer.append(
            {
                "build_id": build_id,
                "pool": pool,
                "path": path,
                "image": row.image if row else None,
                "url": row.url if row else None,
                "size": row.size if row else None,
                "verified": (host, build_id) in state.host_builds,
                "kernel": _kernel(row) if row and build_id in kernels else {},
            }
        )
    return answer


def builds_with_kernel(cluster: Cluster, state: LedgerState) -> set[str]:
    """Builds whose kernel some guest of the cluster boots. A HostOS that has one has its kernel too, for moves."""
    rows = (row for row in state.guests.values() if row.build_id and row.state != "released")
    return {
        str(row.build_id)
        for row in rows
        if row.name in cluster.guests and boots_kernel(cluster, cluster.guests[row.name])
    }


def _kernel(row: BuildRow) -> dict[str, str]:
    """Name of the file in the builder's store -> its sha256."""
    sums = row.manifest.get("sha256") or {}
    return {name: str(sums[name]) for name in KERNEL_FILES if sums.get(name)}


def idle_builds(
    cluster: Cluster, state: LedgerState, host: str, found: t.Sequence[GuestSpec]
) -> list[dict[str, t.Any]]:
    """Builds that lie on a HostOS and that none of its guests is to stand on, in every pool where they may lie."""
    wanted = {spec.root.build_id for spec in found if spec.state != "absent"}
    idle = sorted(build_id for at, build_id in state.host_builds if at == host and build_id not in wanted)
    return [
        {"build_id": build_id, "path": posixpath.join(pool.path, "builds", f"{build_id}.qcow2")}
        for build_id in idle
        for pool in cluster.pools.values()
    ]


def idle_tombstones(
    cluster: Cluster, state: LedgerState, observed: t.Mapping[str, t.Any] | None, *, teardown: bool
) -> dict[str, list[dict[str, t.Any]]]:
    """Tombstones that guard nothing any more, as actions of `guest_migrate`: their guests were released (or go now)."""
    answer: dict[str, list[dict[str, t.Any]]] = {host: [] for host in cluster.hosts}
    sights = read_sights({h: d for h, d in (observed or {}).items() if h in answer}, cluster.name, set(answer))
    for host, sight in sights.items():
        for stone in sight.stones.values() if sight else ():
            row = state.guests.get(stone.uuid)
            if row is None or row.uuid in state.moves or not (teardown or row.state == "released"):
                continue
            action = {"action": "forget", "uuid": row.uuid, "guest": row.name, "epoch": stone.epoch}
            answer[host].append(action)
    return answer


def guests_of(cluster: Cluster, state: LedgerState) -> dict[str, dict[str, t.Any]]:
    """Every guest that was not released, by name."""
    nics = nics_of(state)
    answer = {}
    for row in state.guests.values():
        if row.state == "released":
            continue
        guest, key = cluster.guests.get(row.name), state.host_keys.get(row.uuid)
        addresses = [address for nic in nics.get(row.uuid, ()) for address in nic.addresses]
        answer[row.name] = {
            "uuid": row.uuid,
            "partition": row.partition,
            "host": row.host,
            "state": row.state,
            "wanted": guest.state if guest and row.state != "leaving" else None,
            "address": addresses[0] if addresses else None,
            "host_key": key.key if key else None,
            "first_contact": row.first_contact,
            "build_id": row.build_id,
        }
    return answer


def difference(cluster: Cluster, before: LedgerState, decision: Decision) -> Difference:
    """Guest by guest what the decision changes, in words of the definition; without uuids, which are random."""
    found = Difference(f"cluster {cluster.name}")
    changed = {row.uuid for row in decision.changes.guests}
    changed |= {nic.guest for nic in decision.changes.nics}
    old_nics, new_nics = nics_of(before), nics_of(decision.after)
    for uuid in changed:
        row = decision.after.guests[uuid]
        found.compare(f"guest {row.name}", _shown(before, uuid, old_nics), _shown(decision.after, uuid, new_nics))
    for host in decision.changes.hosts:
        old = before.hosts.get(host.name)
        found.compare(f"host {host.name}", {"fenced": old.fenced if old else None}, {"fenced": host.fenced})
    return found


def _shown(state: LedgerState, uuid: str, nics: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    row = state.guests.get(uuid)
    if row is None:
        return None
    shown: dict[str, t.Any] = {
        "name": row.name,
        "partition": row.partition,
        "state": row.state,
        "host": row.host,
        "epoch": row.epoch,
        "build_id": row.build_id,
        "vcpus": row.vcpus,
        "memory": row.memory,
        "disk": row.disk,
        "spec": row.spec_hash,
    }
    for nic in nics.get(uuid, ()):
        shown[f"nic {nic.position}"] = f"{nic.network} {nic.mac} {' '.join(nic.addresses)}".rstrip()
    return shown
