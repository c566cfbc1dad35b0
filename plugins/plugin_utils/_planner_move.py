# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests to a HostOS that somebody named: each goes there, or stays with the rule that keeps it away."""

from __future__ import annotations

from ._plan import Plan, Problem, Stays
from ._planner_waves import waves


def move(problem: Problem) -> Plan:
    """Moves of the subjects (guests) to `options["to"]`, all at once; who is there already is not mentioned."""
    target = problem.options["to"]
    guests = [problem.guests[name] for name in problem.subjects]
    stays = [
        Stays(guest.name, guest.frozen or "it has no HostOS yet: run oscarv.virt.deploy")
        for guest in guests
        if guest.frozen or guest.host is None
    ]
    going = {guest.name: target for guest in guests if guest.host not in (None, target) and not guest.frozen}
    schedule = waves(problem, going, moves_per_host=max(1, len(going)), reasons=dict.fromkeys(going, "asked for"))
    return Plan(moves=schedule.moves, stays=(*stays, *schedule.stays), engine="none")
