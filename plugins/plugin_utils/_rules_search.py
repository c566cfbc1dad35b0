# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether hard rules can be kept by any placement: a search over hosts that knows no capacity, only rules."""

from __future__ import annotations

import dataclasses
import typing as t

from ._model import Rule
from ._plan import HostState
from ._rules import HOST, domain_of

#: Guests put on a host before the search gives up.
STEPS = 20_000


#: Guests beyond which only the counting of domains is done.
GUESTS = 1500


@dataclasses.dataclass
class _Node:
    """A guest to be put somewhere, and the hosts that are still to be tried for it."""

    name: str | None  #: None: all are placed
    options: dict[str, int]
    done: frozenset[str]
    used: int
    left: int
    tried: set[t.Any] = dataclasses.field(default_factory=set)


class Bits:
    """Hosts as bits of whole numbers: by name, by partition, and by domain of a level. Made once for many searches."""

    def __init__(self, hosts: t.Sequence[HostState]) -> None:
        self.hosts = hosts
        self.everywhere = (1 << len(hosts)) - 1
        self.of = {host.name: 1 << bit for bit, host in enumerate(hosts)}
        self.partitions: dict[str, int] = {}
        for bit, host in enumerate(hosts):
            self.partitions[host.partition] = self.partitions.get(host.partition, 0) | 1 << bit
        self._levels: dict[str, list[int]] = {}
        self._domains: dict[str, list[int]] = {}

    def level(self, level: str) -> list[int]:
        """By host the bits of all hosts in its domain; 0: it has none."""
        if level not in self._levels:
            domains: dict[str, int] = {}
            names = [domain_of(host, level) for host in self.hosts]
            for bit, name in enumerate(names):
                if name is not None:
                    domains[name] = domains.get(name, 0) | 1 << bit
            self._levels[level] = [domains[name] if name is not None else 0 for name in names]
            self._domains[level] = sorted(domains.values())
        return self._levels[level]

    def domains(self, level: str) -> list[int]:
        """The bits of each domain of a level."""
        self.level(level)
        return self._domains[level]


class Search:
    """Backtracking: the guest with the fewest hosts left first, its partners' hosts cut down at once.

    `limited`: guest -> host partitions it may run on; others may anywhere.
    """

    def __init__(
        self,
        bits: Bits,
        rules: t.Sequence[Rule],
        names: t.Sequence[str],
        limited: t.Mapping[str, tuple[str, ...]],
    ) -> None:
        self.bits = bits
        self.names = names
        self.rules: dict[str, list[Rule]] = {name: [] for name in names}
        self.left = STEPS
        self.gave_up = False
        self.apart = [rule for rule in rules if rule.kind == "apart"]
        self.start = dict.fromkeys(names, bits.everywhere)
        for name, on in limited.items():
            self.start[name] &= sum(bits.partitions.get(partition, 0) for partition in dict.fromkeys(on))
        for rule in rules:
            if rule.kind == "pin":
                allowed = sum(bits.of.get(host, 0) for host in dict.fromkeys(rule.hosts))
            else:
                allowed = sum(bits.domains(rule.over))
            for name in rule.guests:
                if name in self.start:
                    self.rules[name].append(rule)
                    self.start[name] &= allowed
        self._masks = list(dict.fromkeys(self.start.values()))
        self._over = [bits.level(over) for over in {rule.over for rule in rules if rule.kind != "pin"} - {HOST}]

    def _alike(self, bit: int) -> tuple[int, ...]:
        """The same for hosts that no rule tells apart."""
        return (*(mask >> bit & 1 for mask in self._masks), *(level[bit] for level in self._over))

    def possible(self) -> bool:
        """False only where it is proved that no placement keeps the rules."""
        if any(not self._matches(rule) for rule in self.apart):
            return False
        if len(self.names) > GUESTS:
            self.gave_up = True
            return True
        return self._run()

    def _matches(self, rule: Rule) -> bool:
        """Whether the guests of an apart rule can have a domain each, each alone where it may run."""
        owner: dict[int, str] = {}
        domains = self.bits.domains(rule.over)
        members = [name for name in rule.guests if name in self.start]
        if len(members) * len(domains) > STEPS * 10:
            return len(members) <= len(domains)

        def find(name: str, seen: set[int]) -> bool:
            for domain in domains:
                if self.start[name] & domain and domain not in seen:
                    seen.add(domain)
                    if domain not in owner or find(owner[domain], seen):
                        owner[domain] = name
                        return True
            return False

        return all(find(name, set()) for name in members)

    def _run(self) -> bool:
        stack = [self._node(self.start, frozenset(), 0)]
        while stack:
            node = stack[-1]
            if node.name is None:
                return True
            bit = self._next(node)
            if bit is None:
                stack.pop()
                continue
            self.left -= 1
            if self.left < 0:
                self.gave_up = True
                return True
            cut = self._cut(node.options, node.done, node.name, bit)
            if cut is not None:
                stack.append(self._node(cut, node.done | {node.name}, node.used | 1 << bit))
        return False

    def _node(self, options: dict[str, int], done: frozenset[str], used: int) -> _Node:
        todo = [name for name in self.names if name not in done]
        name = min(todo, key=lambda name: options[name].bit_count()) if todo else None
        return _Node(name, options, done, used, options[name] if name is not None else 0)

    def _next(self, node: _Node) -> int | None:
        """The next host for the node's guest; hosts that nobody uses and that all rules see alike are one host."""
        while node.left:
            bit = (node.left & -node.left).bit_length() - 1
            node.left &= node.left - 1
            if node.used >> bit & 1:
                return bit
            alike = self._alike(bit)
            if alike not in node.tried:
                node.tried.add(alike)
                return bit
        return None

    def _cut(self, options: dict[str, int], done: frozenset[str], name: str, bit: int) -> dict[str, int] | None:
        """What the others may still do once this guest is on that host; None: somebody has nothing left."""
        cut = {**options, name: 1 << bit}
        for rule in self.rules[name]:
            if rule.kind == "pin":
                continue
            domain = self.bits.level(rule.over)[bit]
            for other in rule.guests:
                if other == name or other not in cut or other in done:
                    continue
                cut[other] &= ~domain if rule.kind == "apart" else domain
                if not cut[other]:
                    return None
        return cut
