# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First fit: put guests on a board, big ones first and tied ones as one, and say who found no place."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._constraints import Board
from ._model import Rule
from ._plan import GuestState, Stays
from ._words import counted, listing, percent

#: Steps of the search for guests that must stay together, per domain tried; a guest alone never searches.
STEPS = 400


def place_all(board: Board, homeless: t.Sequence[GuestState]) -> tuple[dict[str, tuple[int, str]], list[Stays]]:
    """Place what fits: guest -> (host number, reason), in the order of placing; and who stays without a place."""
    placed: dict[str, tuple[int, str]] = {}
    failed: list[list[GuestState]] = []
    hopeless: set[tuple[t.Any, ...]] = set()
    for bundle in _ordered(board, homeless):
        signature = _signature(board, bundle)
        if signature in hopeless:
            failed.append(bundle)
        elif _put_bundle(board, bundle):
            for guest in bundle:
                index = board.where[guest.name]
                placed[guest.name] = (index, _reason(board, guest, index))
        else:
            failed.append(bundle)
            if signature:
                hopeless.add(signature)
    return placed, _stays(board, failed)


def first_homeless(board: Board, homeless: t.Sequence[GuestState]) -> str | None:
    """Place all; the first guest that fits nowhere, None if all do."""
    for bundle in _ordered(board, homeless):
        if not _put_bundle(board, bundle):
            return bundle[0].name
    return None


def _ordered(board: Board, guests: t.Sequence[GuestState]) -> list[list[GuestState]]:
    """Bundles in the order of placing: those under rules first, then by size; names decide between equals."""
    if not guests:
        return []
    whole = board.whole

    def weight(guest: GuestState) -> float:
        demand = guest.demand
        return max(demand.vcpus * 1000 / whole[0], demand.memory / whole[1], demand.disk / whole[2])

    by_name = {guest.name: guest for guest in guests}
    ordered = [
        sorted((by_name[name] for name in names), key=lambda guest: (-weight(guest), guest.name))
        for names in bundles(board.problem.cluster.rules, by_name)
    ]
    rules = board.rules

    def key(bundle: list[GuestState]) -> tuple[t.Any, ...]:
        bound = any(guest.name in rules.pins or guest.name in rules.hard for guest in bundle)
        return (not bound, -sum(map(weight, bundle)), bundle[0].name)

    return sorted(ordered, key=key)


def bundles(rules: t.Sequence[Rule], names: t.Iterable[str]) -> list[set[str]]:
    """Guests that hard `together` rules tie to one another; the others alone."""
    bundle = {name: {name} for name in names}
    for rule in rules:
        if rule.kind != "together" or rule.soft:
            continue
        members = [name for name in rule.guests if name in bundle]
        if not members:
            continue
        merged = set().union(*(bundle[name] for name in members))
        for name in merged:
            bundle[name] = merged
    return list({id(group): group for group in bundle.values()}.values())


def _signature(board: Board, bundle: list[GuestState]) -> tuple[t.Any, ...]:
    """What alone decides whether a guest fits: equals of one that fits nowhere need no try. Empty under a rule."""
    guest = bundle[0]
    if len(bundle) > 1 or board.rules.bound(guest.name):
        return ()
    return (guest.on, guest.demand, guest.needs)


def _put_bundle(board: Board, bundle: list[GuestState]) -> bool:
    """Put all guests of the bundle on the board, or none."""
    if len(bundle) == 1:
        index = next(board.candidates(bundle[0]), None)
        if index is not None:
            board.put(bundle[0], index)
        return index is not None
    level = next((g.rule.over for g in board.rules.hard.get(bundle[0].name, ()) if not g.apart), "host")
    domains = board.rules.domains(level)
    for domain in dict.fromkeys(domains[index] for index in list(board.candidates(bundle[0]))):
        search = _Search(board, bundle, domains, domain)
        if search.run(0):
            return True
    return False


@dataclasses.dataclass
class _Search:
    """Depth first over a bundle within one domain, with a bound on the steps."""

    board: Board
    bundle: list[GuestState]
    domains: t.Sequence[str | None]
    domain: str | None
    steps: int = 0

    def run(self, depth: int) -> bool:
        if depth == len(self.bundle):
            return True
        guest = self.bundle[depth]
        for index in list(self.board.candidates(guest)):
            if depth == 0 and self.domains[index] != self.domain:
                continue
            self.steps += 1
            if self.steps > STEPS:
                return False
            self.board.put(guest, index)
            if self.run(depth + 1):
                return True
            self.board.take(guest)
        return False


def _reason(board: Board, guest: GuestState, index: int) -> str:
    why = f"{'fullest' if board.tight else 'emptiest'} that fits, then {percent(board.load(index), 1)} full"
    spread = board.rules.spreads.get(guest.partition)
    if spread:
        domain = board.rules.domains(spread.level)[index]
        count = board.rules.spread_counts[guest.partition][domain]
        why += f"; {counted(count, 'guest')} of {guest.partition} in {domain}"
    return why


def _stays(board: Board, failed: t.Sequence[list[GuestState]]) -> list[Stays]:
    """Who found no place, with a reason per host as the board is at the end."""
    same: dict[tuple[t.Any, ...], dict[str, str]] = {}
    stays = []
    for bundle in failed:
        signature = _signature(board, bundle)
        for guest in bundle:
            rejected = same.get(signature) if signature else None
            if rejected is None:
                rejected = board.rejected(guest)
                if signature:
                    same[signature] = rejected
            stays.append(Stays(guest.name, _why(guest, bundle, rejected), rejected))
    return stays


def _why(guest: GuestState, bundle: list[GuestState], rejected: t.Mapping[str, str]) -> str:
    if len(bundle) > 1:
        others = listing([other.name for other in bundle if other is not guest])
        return f"no place for it together with {others}"
    if not rejected:
        return "there is no HostOS"
    kinds: dict[str, int] = {}
    for reason in rejected.values():
        kind = re.split(r": | \(", reason)[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return "no HostOS fits: " + listing([f"{kind} ({counted(count, 'host')})" for kind, count in most], 3)
