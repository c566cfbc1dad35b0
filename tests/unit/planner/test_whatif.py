# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What if hosts are lost or added, and how many more guests fit: exact against brute force, and nothing is broken."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._checker import complaints
from ansible_collections.oscarv.virt.plugins.plugin_utils._model import Tolerate
from ansible_collections.oscarv.virt.plugins.plugin_utils._plan import Place, Plan, Problem
from ansible_collections.oscarv.virt.plugins.plugin_utils._planner_whatif import supposed, what_if
from hypothesis import given
from hypothesis import strategies as st
from problems import GIB, examples, guest, host, problem, problems

RACK1, RACK2 = (("rack", "r1"),), (("rack", "r2"),)


def asking(asked: Problem, **options: t.Any) -> Problem:
    return dataclasses.replace(asked, verb="what_if", options=options)


@examples(250)
@given(problems(), st.data())
def test_the_answer_is_a_good_plan_for_the_supposed_cluster(asked: Problem, data: st.DataObject) -> None:
    lose = data.draw(st.lists(st.sampled_from(sorted(asked.hosts)), max_size=2, unique=True))
    add = data.draw(st.sampled_from([None, {"count": 2, "like": "h0"}]))
    asked = asking(asked, lose=lose, add=add, make_room=data.draw(st.booleans()))
    plan = what_if(asked)
    assert complaints(supposed(asked), plan, always_together=True) == []
    answered = {place.guest for place in plan.places} | {stay.guest for stay in plan.stays}
    assert {g.name for g in asked.guests.values() if g.host in lose} <= answered
    assert not {place.host for place in plan.places} & set(lose)


@examples(150)
@given(problems(max_hosts=3, max_guests=5))
def test_the_number_that_fits_is_exact(asked: Problem) -> None:
    asked = asking(asked, fit="workers")
    if not asked.guests:
        with pytest.raises(ValueError, match="no guest of a partition 'workers'"):
            what_if(asked)
        return
    plan = what_if(asked)
    count = plan.details["fit"]["count"]
    placed = {p.guest: p.host for p in plan.places}
    guests = {n: dataclasses.replace(g, host=placed.get(n, g.host)) for n, g in asked.guests.items()}
    shape = next(
        g
        for g in asked.guests.values()
        if f"({g.demand.vcpus} vCPU{'s' * (g.demand.vcpus != 1)}, {g.demand.memory // GIB} GiB memory" in plan.notes[-1]
    )

    def fits(number: int) -> bool:
        """Equal guests: first fit is exact."""
        left = number
        fill: list[Place] = []
        new = {f"n{i}": dataclasses.replace(shape, name=f"n{i}", host=None, frozen="") for i in range(number)}
        whole = dataclasses.replace(asked, verb="balance", guests={**guests, **new})
        for name in asked.hosts:
            while left:
                more = [*fill, Place(f"n{left - 1}", name, "")]
                if complaints(whole, Plan(places=tuple(more))):
                    break
                fill, left = more, left - 1
        return left == 0

    if len({(g.demand, g.on, g.needs) for g in asked.guests.values()}) == 1:
        assert fits(count) and not fits(count + 1)


def test_a_lost_rack_and_an_added_host() -> None:
    hosts = [host("h1", enclosures=RACK1), host("h2", enclosures=RACK1), host("h3", enclosures=RACK2)]
    guests = [guest(f"g{n}", memory=4, host=f"h{n % 2 + 1}") for n in range(4)]
    lost = what_if(asking(problem(hosts, guests), lose=["r1"]))
    assert [place.host for place in lost.places] == ["h3", "h3"] and len(lost.stays) == 2
    assert lost.notes == ("without h1, h2: 4 guests lose their host, 2 find another",)
    saved = what_if(asking(problem(hosts, guests), lose=["r1"], add={"count": 1, "like": "h3"}))
    assert {place.host for place in saved.places} == {"h3", "h3+1"} and not saved.stays
    assert saved.details["added"] == ["h3+1"] and saved.notes[1] == "with 1 host like h3 more"


def test_how_many_more_fit_and_what_stops_the_next() -> None:
    guests = [guest("a", memory=2, vcpus=2, host="h1")]
    plan = what_if(asking(problem([host("h1"), host("h2", vcpus=3)], guests), fit="workers"))
    assert plan.notes == (
        "4 more guests of workers (2 vCPUs, 2 GiB memory, 1 GiB disk each) fit; then: no HostOS fits: vcpus (2 hosts)",
    )
    assert plan.details["fit"]["count"] == 4 and set(plan.details["fit"]["rejected"]) == {"h1", "h2"}


def test_fewer_fit_where_losses_must_be_tolerated() -> None:
    guests = [guest("a", memory=2, host="h1")]
    asked = problem([host("h1"), host("h2")], guests, tolerate=[Tolerate(1, "host")])
    fit = what_if(asking(asked, fit="workers")).details["fit"]
    assert (fit["count"], fit["without_tolerate"]) == (3, 7) and "tolerate {lose: 1" in fit["stopped_by"]


def test_names_that_there_are_not_are_refused() -> None:
    asked = problem([host("h1")], [guest("a")])
    for options, words in (
        ({"lose": ["h9"]}, "no HostOS or enclosure h9"),
        ({"add": {"count": 1, "like": "h9"}}, "there is no HostOS 'h9'"),
        ({"add": {"count": 0, "like": "h1"}}, "or 0 is not 1 or more"),
        ({"fit": "x"}, "no guest of a partition 'x'"),
    ):
        with pytest.raises(ValueError, match=words):
            what_if(asking(asked, **options))
