# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deploy makes of the answers of its HostOSes: whom to wait for, what to tell, what went wrong."""

from __future__ import annotations

import typing as t

from ._words import listing, natural

#: Guests that are listed one by one; of more only the first are.
SHOWN = 12


def deploy_report(
    results: t.Mapping[str, t.Any],
    decided: t.Mapping[str, t.Any],
    reached: t.Collection[str] = (),
    check: bool = False,
) -> dict[str, t.Any]:
    """`results`: {HOST: result of `guest`}; `decided`: result of `assign`; `reached`: guests that answered by now.

    Gives `observations` (what the ledger has to know of it; in check mode without guests that it does not know yet),
    `expected` (guests that have to answer over ssh), `new` (those of them never reached before, by host),
    `with_roles` (guests that their partition's roles are for), `lines` for people, and `problems`.
    """
    answers = {host: data for host, data in results.items() if isinstance(data.get("guests"), t.Mapping)}
    seen = {name: (host, entry) for host, data in answers.items() for name, entry in data["guests"].items()}
    known, chosen = decided["guests"], decided["selected"]

    def mine(name: str) -> bool:
        return chosen is None or name in chosen

    runs = [
        name for name, (_host, entry) in seen.items() if entry.get("state") == "running" and not entry.get("failed")
    ]
    runs = [name for name in runs if mine(name) and known.get(name, {}).get("wanted") == "running"]
    new = [name for name in runs if not known[name]["first_contact"]]
    started = [name for name in runs if "start" in seen[name][1].get("steps", ())]
    reached_now = {name for name in runs if known[name]["first_contact"]} | set(reached)
    roles = decided["roles"]
    return {
        "observations": _observations(answers, {p["guest"] for p in decided["plan"]["places"]} if check else set()),
        "expected": sorted({*new, *started}, key=natural),
        "new": {host: sorted((n for n in new if seen[n][0] == host), key=natural) for host in results},
        "with_roles": sorted((n for n in runs if n in reached_now and roles.get(known[n]["partition"])), key=natural),
        "lines": list(_lines(answers, seen)),
        "problems": list(_problems(results, seen, decided)),
    }


def _observations(answers: t.Mapping[str, t.Any], unknown: t.Collection[str]) -> dict[str, t.Any]:
    return {
        host: {
            "guests": {name: entry for name, entry in data["guests"].items() if name not in unknown},
            "pruned": data.get("pruned") or [],
        }
        for host, data in answers.items()
    }


def _lines(answers: t.Mapping[str, t.Any], seen: t.Mapping[str, tuple[str, t.Mapping[str, t.Any]]]) -> t.Iterator[str]:
    changed = sorted((name for name, (_host, entry) in seen.items() if entry.get("changed")), key=natural)
    for name in changed[:SHOWN]:
        host, entry = seen[name]
        yield f"{name} on {host}: {', '.join(entry.get('steps', ())) or 'changed'}"
    if len(changed) > SHOWN:
        yield f"... and {len(changed) - SHOWN} more guests changed"
    for key, words in (
        ("restart_required", "Waiting for a restart, say -e oscarv_allow_restart=true"),
        ("build_outdated", "On an older build, oscarv.virt.rebuild replaces the root disk"),
    ):
        names = sorted((name for name, (_host, entry) in seen.items() if entry.get(key)), key=natural)
        if names:
            yield f"{words}: {listing(names, SHOWN)}"
    for host, data in answers.items():
        gone = [str(entry["name"]) for entry in data.get("pruned") or ()]
        if gone:
            yield f"{host}: removed {listing(sorted(gone, key=natural), SHOWN)}"
        tried = {*gone, *(str(entry["name"]) for entry in data.get("prune_failed") or ())}
        left = [str(e["name"]) for e in data.get("prunable_found") or () if str(e["name"]) not in tried]
        if left:
            shown = listing(sorted(left, key=natural), SHOWN)
            yield f"{host}: {shown} left the definition, or is a stale copy: say -e oscarv_prune=remove"
        for entry in data.get("unnamed_kept") or ():
            yield f"{host}: {entry['name']} is in no spec and is kept: {entry.get('kept_because') or 'unknown'}"


def _problems(
    results: t.Mapping[str, t.Any],
    seen: t.Mapping[str, tuple[str, t.Mapping[str, t.Any]]],
    decided: t.Mapping[str, t.Any],
) -> t.Iterator[str]:
    for stay in decided["plan"]["stays"]:
        yield f"{stay['guest']}: {stay['reason']}"
    for name in sorted(seen, key=natural):
        host, entry = seen[name]
        if entry.get("failed"):
            yield f"{name} on {host}: {entry.get('msg') or 'failed'}"
    for host, data in results.items():
        for left in data.get("prune_failed") or ():
            yield f"{left['name']} on {host}: {left['msg']}"
        if data.get("failed") and not isinstance(data.get("guests"), t.Mapping):
            yield f"{host}: {data.get('msg') or 'oscarv.virt.guest failed'}"
