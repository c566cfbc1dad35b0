# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""assign, placement and the playbook plan through the real ansible-playbook; no HostOS is asked for any of it."""

from __future__ import annotations

import json
import re
import subprocess
import typing as t

import pytest
from conftest import ROOT, Folder, Run

ASSIGN: dict[str, t.Any] = {"oscarv.virt.assign": {}, "register": "r"}


def diff_of(run: Run) -> str:
    """The diff without what is random."""
    return "\n".join(line for line in run.text.splitlines() if line.startswith(("+", "-")) and "uuid" not in line)


def ledger(folder: Folder) -> dict[str, t.Any]:
    return folder.result("ledger_info", {"subset": ["guests", "history"]})


def test_check_then_real_then_again(folder: Folder) -> None:
    folder.record_build()
    before = ledger(folder)
    predicted = folder.tasks(ASSIGN, arguments=["--check", "--diff"]).ok()
    assert predicted.changed == {"node1": 1} and "10.0.4.2" in predicted.text
    assert ledger(folder) == before, "check mode wrote to the ledger"
    done = folder.tasks(ASSIGN, arguments=["--diff"]).ok()
    assert done.changed == {"node1": 1} and diff_of(done) == diff_of(predicted)
    again = folder.tasks(ASSIGN, arguments=["--diff"]).ok()
    assert again.changed == {"node1": 0} and diff_of(again) == ""
    now = ledger(folder)
    assert now["revision"] == before["revision"] + 1 and [g["name"] for g in now["guests"]] == ["wn1", "wn2", "wn3"]
    assert {h["what"] for h in now["history"]} == {"assign", "record_build"}


def test_check_mode_creates_no_ledger(folder: Folder) -> None:
    run = folder.tasks({"oscarv.virt.assign": {"need_builds": False}}, arguments=["--check"]).ok()
    assert run.changed == {"node1": 1} and not (folder.path / ".oscarv").exists()


def test_what_is_refused_is_named_and_changes_nothing(folder: Folder) -> None:
    folder.tasks(ASSIGN).fails("image deb has no build, which wn1, wn2, wn3 need: run oscarv.virt.image")
    assert not (folder.path / ".oscarv").exists()
    folder.record_build()
    folder.tasks(ASSIGN).ok()
    before = ledger(folder)
    folder.workers["members"] = "wn1"
    folder.write()
    folder.tasks(ASSIGN).fails("2 of 3 guests would leave", "-e oscarv_confirm=tact")
    folder.tasks({"oscarv.virt.assign": {"teardown": True}}).fails("teardown removes 3 guests of cluster tact")
    folder.tasks({"oscarv.virt.assign": {"rebuild": True}}).fails("rebuild: say which guests")
    folder.tasks({"oscarv.virt.assign": {"select": ["wm1"]}}).fails("no guest or guest partition of cluster tact")
    assert ledger(folder) == before


def test_a_limit_narrows_nothing_that_is_decided(folder: Folder) -> None:
    folder.record_build()
    result = folder.result("assign", {}, "--limit", "node2")
    assert set(result["specs"]) == {"node1", "node2"} and len(result["guests"]) == 3


def test_two_runs_at_once_decide_once(folder: Folder) -> None:
    folder.record_build()
    folder.workers["members"] = "wn[1:40]"
    folder.data["networks"]["lan"]["ranges"] = "10.0.4.0/26"
    folder.workers["memory"] = "64 MiB"
    folder.workers["disk"] = "1 GiB"
    folder.data["partitions"]["hosts"]["capacity"]["vcpus"] = 40
    folder.write()
    command = folder.command(str(folder.write_play(ASSIGN)))
    runs = [
        subprocess.Popen(
            command, cwd=ROOT, env=folder.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _run in range(4)
    ]
    texts = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, texts
    guests = ledger(folder)["guests"]
    addresses = [address for guest in guests for nic in guest["nics"] for address in nic["addresses"]]
    assert len(guests) == len({g["uuid"] for g in guests}) == len(set(addresses)) == 40
    assert sum(Run(0, text).changed["node1"] for text in texts) == 1


def test_secrets_are_in_no_result(folder: Folder) -> None:
    password = folder.path.parent / "password"
    password.write_text("open sesame\n")
    vault = [str(folder.command("x")[0]).replace("ansible-playbook", "ansible-vault"), "encrypt_string", "hunter2"]
    sealed = subprocess.run(
        [*vault, "--vault-password-file", str(password)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    folder.record_build()
    text = (folder.path / "t.oscarv.yml").read_text()
    secret = "      users:\n      - name: me\n        passwd: " + sealed.strip().replace("\n", "\n          ") + "\n"
    text = text.replace("    image: deb\n", "    image: deb\n    cloud_init:\n" + secret, 1)
    (folder.path / "t.oscarv.yml").write_text(text)
    run = folder.tasks(ASSIGN, arguments=["-vvv", "--diff", "--vault-password-file", str(password)]).ok()
    assert "hunter2" not in run.text and "oscarv_vaulted" in run.text
    result = folder.result("assign", {}, "--vault-password-file", str(password))
    spec = result["specs"][result["guests"]["wn1"]["host"]][0]
    assert spec["seed"]["cloud_init"]["users"][0]["passwd"]["oscarv_vaulted"].startswith("$ANSIBLE_VAULT")


# -- placement --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_evacuate_and_explain_change_nothing(folder: Folder) -> None:
    folder.record_build()
    folder.tasks(ASSIGN).ok()
    before = ledger(folder)
    answer = folder.result("placement", {"verb": "evacuate", "hosts": ["node1"]})
    assert {(m["source"], m["target"], m["wave"]) for m in answer["plan"]["moves"]} == {("node1", "node2", 1)}
    assert answer["before"]["hosts_used"] == 2 and answer["after"]["hosts_used"] == 1
    answer = folder.result("placement", {"verb": "explain", "select": ["wn1"]})
    assert [re.sub(r",.*", "", line) for line in answer["report"]] == ["wn1 on node1: fits", "wn1 on node2: fits"]
    assert ledger(folder) == before


@pytest.mark.long
def test_what_placement_cannot_do_it_says(folder: Folder) -> None:
    def ask(**arguments: t.Any) -> Run:
        return folder.tasks({"oscarv.virt.placement": arguments})

    ask(verb="relieve").fails("threshold")
    ask(verb="relieve", threshold=0).fails("threshold: found 0; allowed: 1 or more")
    ask(verb="relieve", threshold=120).fails("threshold")
    ask(verb="move", select=["wn1"], to="node9").fails("there is no HostOS node9 in cluster tact")
    ask(verb="what_if", add={"count": 1, "like": "node9"}).fails("there is no HostOS 'node9'")
    ask(verb="what_if", fit="nobody").fails("no guest of a partition 'nobody'")
    ask(verb="evacuate").fails("hosts")
    ask(verb="evacuate", hosts=["rack9"]).fails("no HostOS, host partition or enclosure of cluster tact is called so")
    ask(verb="evacuate", hosts=["node1"], moves_per_host=0).fails("moves_per_host: found 0")


@pytest.mark.long
def test_every_question_is_answered_and_nothing_changes(folder: Folder) -> None:
    folder.record_build()
    folder.tasks(ASSIGN).ok()
    before = ledger(folder)

    def ask(**arguments: t.Any) -> dict[str, t.Any]:
        return folder.result("placement", arguments)

    packed = ask(verb="consolidate")
    assert {move["target"] for move in packed["plan"]["moves"]} == {packed["plan"]["moves"][0]["target"]}
    assert (packed["before"]["hosts_used"], packed["after"]["hosts_used"]) == (2, 1)
    assert "hosts" in " ".join(packed["plan"]["notes"]) and packed["plan"]["engine"]
    relieved = ask(verb="relieve", threshold=90)
    assert relieved["plan"]["moves"] == []
    assert len(ask(verb="balance", moves=1)["plan"]["moves"]) <= 1
    moved = ask(verb="move", select=["wn1"], to="node2")
    assert [(m["guest"], m["target"]) for m in moved["plan"]["moves"]] == [("wn1", "node2")]
    lost = ask(verb="what_if", lose=["node1"], fit="workers")
    assert {place["host"] for place in lost["plan"]["places"]} == {"node2"}
    assert lost["plan"]["details"]["lost"] == ["node1"] and lost["plan"]["details"]["fit"]["count"] > 0
    more = ask(verb="what_if", add={"count": 2, "like": "node1"}, fit="workers")
    assert more["plan"]["details"]["fit"]["count"] > lost["plan"]["details"]["fit"]["count"]
    why = ask(verb="explain", select=["wn1"])["plan"]["details"]["wn1"]
    assert [choice["host"] for choice in why] == ["node1", "node2"] and why[0]["rank"]
    assert ledger(folder) == before


def test_contradictory_rules_are_refused_with_their_lines(folder: Folder) -> None:
    folder.record_build()
    folder.data["rules"] = [{"apart": ["wn1", "wn2"], "over": "host"}, {"together": ["wn1", "wn2"], "over": "host"}]
    folder.write()
    folder.tasks(ASSIGN).fails("apart wn1, wn2", "together wn1, wn2", ".oscarv.yml:")


# -- the playbook plan --------------------------------------------------------------------------------------------


def test_plan_shows_and_writes_and_changes_nothing(folder: Folder) -> None:
    out = folder.path.parent / "plan.json"
    run = folder.playbook("oscarv.virt.plan", "-e", f"oscarv_plan_file={out}").ok()
    assert '"wn1    -     node1  emptiest that fits, then 12 % full"' in run.text
    assert "image deb has no build" in run.text
    assert re.search(r'"guests placed +0 of 3 +3 of 3"', run.text)
    plan = json.loads(out.read_text())
    assert [place["guest"] for place in plan["places"]] == ["wn1", "wn2", "wn3"]
    assert not (folder.path / ".oscarv").exists()
    out.unlink()
    asked = folder.playbook("oscarv.virt.plan", "-e", "oscarv_verb=what_if", "-e", "oscarv_fit=workers").ok()
    assert "more guests of workers" in asked.text
    run = folder.playbook("oscarv.virt.plan", "--check").ok()
    assert run.changed == {"node1": 0} and not out.exists()
