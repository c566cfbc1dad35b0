# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arguments of the action `ledger` to a pure function of the ledger's state.

Arguments are read and checked once, here; the function is then run before the transaction (and in check mode only
there) and again inside it, on the state that it is recorded upon.
"""

from __future__ import annotations

import typing as t
import uuid

from . import _ledger_moves as moves
from . import _ledger_operations as operations
from ._context import Context
from ._ledger_observe import observe
from ._ledger_outcome import Outcome, Refused
from ._ledger_rebuild import rebuild
from ._ledger_rows import LedgerState, MoveRow
from ._ledger_seen import Sight, read_sight, read_sights
from ._settle import settle

Arguments = t.Mapping[str, t.Any]
#: Moves in every state, by their ids.
ReadMoves = t.Callable[[t.Collection[str]], t.Sequence[MoveRow]]
Decide = t.Callable[[LedgerState, ReadMoves], Outcome]


def _needed(args: Arguments, *names: str) -> list[t.Any]:
    missing = [name for name in names if args.get(name) is None]
    if missing:
        raise Refused([f"operation {args['operation']}: `{name}` is needed" for name in missing])
    return [args[name] for name in names]


def _per_host(args: Arguments, one: str, many: str) -> dict[str, t.Any]:
    """`host` with `one`, or `many` as {HOST: value}: one task for all HostOSes instead of one for each."""
    if args.get(many) is not None:
        if args.get("host") is not None or args.get(one) is not None or not isinstance(args[many], dict):
            raise Refused([f"{many}: a mapping from host to its value, and neither `host` nor `{one}` beside it"])
        return dict(args[many])
    if args.get("host") is None or args.get(one) is None:
        raise Refused([f"operation {args['operation']}: `host` and `{one}` are needed, or `{many}`"])
    return {args["host"]: args[one]}


def _names(args: Arguments) -> list[str] | None:
    names = args.get("guests")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise Refused([f"operation {args['operation']}: guests: expected a list of names"])
    return names


def _sights(ctx: Context, args: Arguments) -> dict[str, Sight | None]:
    hosts, cluster = ctx.cluster.hosts, ctx.cluster.name
    found = _per_host(args, "guests", "observations")
    if args.get("observations") is not None:
        return read_sights(found, cluster, hosts)
    ((host, guests),) = found.items()
    if host not in hosts:
        raise Refused([f"host {host}: not a HostOS of cluster {cluster}; see `partitions` in {ctx.cluster.definition}"])
    data = {"guests": guests, "pruned": args.get("pruned") or []}
    return {host: read_sight(host, data, cluster, complete=args.get("complete"))}


def _observe(ctx: Context, args: Arguments) -> Decide:
    sights = _sights(ctx, args)
    return lambda state, _moves: observe(state, sights, ctx.stamp, ctx.cluster.quarantine)


def _record_host(ctx: Context, args: Arguments) -> Decide:
    infos = _per_host(args, "info", "infos")
    return lambda state, _moves: operations.record_hosts(ctx.cluster, state, infos, ctx.stamp)


def _record_build(ctx: Context, args: Arguments) -> Decide:
    (build,) = _needed(args, "build")
    return lambda state, _moves: operations.record_build(state, build, ctx.stamp)


def _record_host_build(ctx: Context, args: Arguments) -> Decide:
    builds, exact = _per_host(args, "build_ids", "host_builds"), bool(args.get("exact"))
    for host, ids in builds.items():
        if not (isinstance(ids, list) and all(isinstance(item, str) for item in ids)):
            raise Refused([f"host {host}: build_ids: expected a list of build_ids"])
    return lambda state, _moves: operations.record_host_builds(ctx.cluster, state, builds, ctx.stamp, exact=exact)


def _first_contact(ctx: Context, args: Arguments) -> Decide:
    _needed(args, "guests")
    names = _names(args) or []
    return lambda state, _moves: operations.first_contact(state, names, ctx.stamp)


def _begin_moves(ctx: Context, args: Arguments) -> Decide:
    (wishes,) = _needed(args, "moves")
    return lambda state, _moves: moves.begin(ctx.cluster, state, wishes, ctx.stamp, lambda: str(uuid.uuid4()))


def _end_move(ctx: Context, args: Arguments) -> Decide:
    wishes = args.get("moves")
    if wishes is None:
        _needed(args, "id", "outcome")
        wishes = [{name: args.get(name) for name in ("id", "outcome", "message")}]
    ids = {str(wish.get("id")) for wish in wishes}

    def decide(state: LedgerState, read: ReadMoves) -> Outcome:
        ended = {move.id: move for move in read(ids) if move.state != "in_flight"}
        return moves.end(state, ended, wishes, ctx.stamp)

    return decide


def _settle(ctx: Context, args: Arguments) -> Decide:
    sights = read_sights(_needed(args, "observations")[0], ctx.cluster.name, ctx.cluster.hosts)
    return lambda state, _moves: settle(state, sights, ctx.stamp, args.get("resolve"))


def _rebuild(ctx: Context, args: Arguments) -> Decide:
    sights = read_sights(_needed(args, "observations")[0], ctx.cluster.name, ctx.cluster.hosts)
    return lambda state, _moves: rebuild(ctx.cluster, state, sights, ctx.stamp, args.get("fenced") or ())


def _fence(ctx: Context, args: Arguments) -> Decide:
    (host,) = _needed(args, "host")
    return lambda state, _moves: operations.fence(ctx.cluster, state, host, ctx.stamp)


def _unfence(ctx: Context, args: Arguments) -> Decide:
    (host,) = _needed(args, "host")
    return lambda state, _moves: operations.unfence(ctx.cluster, state, host, ctx.stamp)


def _maintenance(ctx: Context, args: Arguments) -> Decide:
    (host,) = _needed(args, "host")
    return lambda state, _moves: operations.maintenance(ctx.cluster, state, host, args.get("reason"), ctx.stamp)


def _release(ctx: Context, args: Arguments) -> Decide:
    names = _names(args)
    return lambda state, _moves: operations.release(state, names, ctx.stamp, ctx.cluster.quarantine)


#: The operations that decide on rows. `export`, `import` and `upgrade` handle the ledger as a whole.
DECIDERS: dict[str, t.Callable[[Context, Arguments], Decide]] = {
    "observe": _observe,
    "record_host": _record_host,
    "record_build": _record_build,
    "record_host_build": _record_host_build,
    "first_contact": _first_contact,
    "begin_moves": _begin_moves,
    "end_move": _end_move,
    "settle": _settle,
    "fence": _fence,
    "unfence": _unfence,
    "maintenance": _maintenance,
    "release": _release,
    "rebuild": _rebuild,
}
