# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions `ledger` and `ledger_info` in a real ansible-playbook: each operation in check mode, real, and again."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests" / "unit" / "ledger"))

import ledgers
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows

EVIL = "{{ lookup('pipe', 'id') }}"
SECOND = {"ledger": "sqlite:///second.sqlite"}
INFO = {
    "hostos": {
        "hypervisor": "kvm",
        "capacity": {"vcpus": 8, "memory": 2**36, "disk": 2**40},
        "cpu": {"model": "qemu64", "features": []},
        "foreign": {"vcpus": 0, "memory": 0, "disk": 0, "guests": 0},
    }
}
BUILD = {"build_id": ledgers.BUILD, "image": "worker", "recipe_id": "cd" * 32, "size": 1, "virtual_size": 2}


def everywhere(**answers: t.Any) -> dict[str, t.Any]:
    """Answers of all HostOSes; those that are not named have nothing."""
    return {host: answers.get(host, ledgers.answer()) for host in ("node01", "node02", "node03", "spare1", "box1")}


ALL_ON_ONE = everywhere(node01=ledgers.answer(*(ledgers.entry(number, seed="/seed.iso") for number in (1, 2, 3))))
MOVED = everywhere(
    node01=ledgers.answer(ledgers.entry(3), stones=[ledgers.stone(1), ledgers.stone(2)]),
    node02=ledgers.answer(ledgers.entry(1, epoch=2), ledgers.entry(2, epoch=2, state="paused")),
)
SEEN = {"wn2": {"uuid": ledgers.uuid(2), "state": "paused", "epoch": 1, "host_key": ledgers.OTHER_KEY}}

LOOK = """\
set -euo pipefail
cd "$(dirname "$0")"
find . -type f ! -name '*-journal' ! -name 'play*' -exec sha256sum {} + | sort
"""

#: Name of the step -> arguments. Each runs three times: check mode, real, again; on one ledger, in this order.
STEPS: dict[str, dict[str, t.Any]] = {
    "record_hosts": {"operation": "record_host", "infos": {"node01": INFO, "node02": INFO}},
    "record_host": {"operation": "record_host", "host": "node03", "info": "{{ from_a_host.stdout | from_json }}"},
    "record_build": {"operation": "record_build", "build": BUILD},
    "record_host_build": {"operation": "record_host_build", "host": "node01", "build_ids": [ledgers.BUILD]},
    "rebuild": {"operation": "rebuild", "observations": ALL_ON_ONE},
    "observe": {"operation": "observe", "host": "node01", "guests": SEEN},
    "observe_same": {"operation": "observe", "observations": {"node02": None}},
    "first_contact": {"operation": "first_contact", "guests": ["wn1", "wn3"]},
    "maintenance": {"operation": "maintenance", "host": "node03", "reason": "fan"},
    "begin_moves": {"operation": "begin_moves", "moves": [{"guest": "wn1", "target": "node02"}]},
    "begin_refused": {
        "operation": "begin_moves",
        "moves": [{"guest": "wn2", "target": "node02"}, {"guest": "wn3", "target": "node03"}],
    },
    "end_move": {"operation": "end_move", "id": "{{ begin_moves_real.moves[0].id }}", "outcome": "committed"},
    "begin_second": {"operation": "begin_moves", "moves": [{"guest": "wn2", "target": "node02", "mode": "cold"}]},
    "settle_look": {"operation": "settle", "observations": MOVED, "record": False},
    "settle": {"operation": "settle", "observations": MOVED},
    "fence": {"operation": "fence", "host": "node03"},
    "unfence": {"operation": "unfence", "host": "node03"},
    "release": {"operation": "release", **SECOND},
    "export": {"operation": "export", "path": "backup.json"},
    "export_document": {"operation": "export"},
    "import": {"operation": "import", "path": "backup.json", "ledger": "sqlite:///third.sqlite"},
    "import_refused": {"operation": "import", "path": "backup.json", **SECOND},
    "import_replace": {"operation": "import", "path": "backup.json", "replace": True, **SECOND},
    "upgrade": {"operation": "upgrade"},
    "no_host": {"operation": "fence"},
    "no_such_host": {"operation": "fence", "host": "elsewhere"},
    "half_observe": {"operation": "observe", "host": "node01"},
}
#: A second run of these is refused, as it must be.
REFUSED = {"begin_refused", "import_refused", "no_host", "no_such_host", "half_observe"}
REFUSED_AGAIN = {"begin_moves", "begin_second"}
UNCHANGED = {"observe_same", "settle_look", "export_document", "upgrade"}


def task(step: str, run: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    name = f"{step}_{run}"
    call = {"oscarv.virt.ledger": arguments, "register": name, "check_mode": run == "check", "diff": True}
    if step not in REFUSED and not (run == "again" and step in REFUSED_AGAIN):
        return {"name": f"Run {name}", **call}
    caught = {"ansible.builtin.set_fact": {name: {"refused": "{{ ansible_failed_result.msg }}"}}}
    return {
        "name": f"Refuse {name}",
        "block": [{"name": f"Run {name}", **call}],
        "rescue": [{"name": "Keep the message", **caught}],
    }


def look(name: str) -> dict[str, t.Any]:
    """All files of the definition's folder with their checksums."""
    found = "{{ lookup('ansible.builtin.pipe', 'bash ' ~ playbook_dir ~ '/play-look.sh') }}"
    return {"name": f"Look at {name}", "ansible.builtin.set_fact": {name: found}}


def play(tasks: list[dict[str, t.Any]], names: list[str]) -> list[dict[str, t.Any]]:
    results = "{" + ", ".join(f"'{name}': {name}" for name in names) + "} | to_json"
    keep = {"content": "{{ " + results + " }}", "dest": "{{ playbook_dir }}/play-results.json", "mode": "0600"}
    tasks = [*tasks, {"name": "Keep results", "ansible.builtin.copy": keep, "no_log": True}]
    return [{"name": "Test", "hosts": "localhost", "gather_facts": False, "tasks": tasks}]


def run_playbook(folder: pathlib.Path, tasks: list[dict[str, t.Any]], names: list[str]) -> dict[str, t.Any]:
    (folder / "play.json").write_text(json.dumps(play(tasks, names)))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", "oscarv_definition=demo.oscarv.yml"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OSCARV_LEDGER", "JOB_ID", "AWX_HOST")
    }
    environment |= {"ANSIBLE_CONFIG": str(TOP / "ansible.cfg"), "SUDO_USER": "alice"}
    done = subprocess.run(
        [*command, str(folder / "play.json")],
        cwd=TOP,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    results: dict[str, t.Any] = json.loads((folder / "play-results.json").read_text())
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("cluster")
    ledgers.definition(folder)
    with ledgers.ledger(folder, file="second.sqlite").transaction() as tx:
        tx.write(
            rows.Changes(
                guests=(ledgers.guest(8, state="leaving"), ledgers.guest(9, state="leaving", host="node02")),
                nics=(ledgers.nic(8),),
                hosts=(rows.HostRow("node01", "kvm", fenced=ledgers.NOW),),
            )
        )
    return folder


@pytest.fixture(scope="module")
def results(folder: pathlib.Path) -> dict[str, t.Any]:
    (folder / "play-look.sh").write_text(LOOK)
    (folder / "evil.json").write_text(json.dumps(INFO).replace("qemu64", EVIL))
    evil = {"ansible.builtin.command": {"cmd": "cat {{ playbook_dir }}/evil.json"}, "register": "from_a_host"}
    tasks, names = [{"name": "Hear from a host", "changed_when": False, **evil}, look("before")], ["before"]
    for step, arguments in STEPS.items():
        for run in ("check", "real", "again"):
            tasks += [task(step, run, arguments), look(f"{step}_{run}_files")]
            names += [f"{step}_{run}", f"{step}_{run}_files"]
    for name, arguments in (
        ("info", {"subset": ["guests", "hosts", "moves", "builds", "history"], "all_moves": True, "limit": 1000}),
        ("info_of_one", {"subset": ["history", "moves", "guests"], "subject": "wn1", "limit": 2, "all_moves": True}),
        ("info_of_none", {"ledger": "sqlite:///nowhere/l.sqlite"}),
    ):
        tasks.append({"name": f"Run {name}", "oscarv.virt.ledger_info": arguments, "register": name})
        names.append(name)
    return run_playbook(folder, [*tasks, look("after")], [*names, "after"])


CHANGING = [step for step in STEPS if step not in REFUSED | UNCHANGED]


@pytest.mark.parametrize("step", CHANGING)
def test_check_mode_predicts_and_touches_nothing(results: dict[str, t.Any], step: str) -> None:
    order = list(STEPS)
    before = "before" if step == order[0] else f"{order[order.index(step) - 1]}_again_files"
    check, real = results[f"{step}_check"], results[f"{step}_real"]
    assert check["changed"] is True and real["changed"] is True
    assert results[f"{step}_check_files"] == results[before]
    assert results[f"{step}_real_files"] != results[before]
    volatile = {"diff", "moves", "document"}
    assert {key: value for key, value in check.items() if key not in volatile} == {
        key: value for key, value in real.items() if key not in volatile
    }


@pytest.mark.parametrize("step", [step for step in CHANGING if step not in REFUSED_AGAIN])
def test_a_second_run_changes_nothing(results: dict[str, t.Any], step: str) -> None:
    again = results[f"{step}_again"]
    assert again["changed"] is False and not again.get("diff")
    assert results[f"{step}_again_files"] == results[f"{step}_real_files"]


@pytest.mark.parametrize("step", sorted(UNCHANGED))
def test_what_has_nothing_to_do_changes_nothing(results: dict[str, t.Any], step: str) -> None:
    for run in ("check", "real", "again"):
        assert results[f"{step}_{run}"]["changed"] is False
    assert results[f"{step}_again_files"] == results[f"{step}_check_files"]


@pytest.mark.parametrize("step", [step for step in CHANGING if step not in ("export", "import", "import_replace")])
def test_the_diff_shows_what_changes(results: dict[str, t.Any], step: str) -> None:
    for run in ("check", "real"):
        ((shown),) = results[f"{step}_{run}"]["diff"]
        before, after = json.loads(shown["before"]), json.loads(shown["after"])
        assert set(before) == set(after) and before and all(before[key] != after[key] for key in before)


def test_the_diff_is_exact(results: dict[str, t.Any]) -> None:
    (shown,) = results["maintenance_check"]["diff"]
    assert json.loads(shown["before"]) == {"host node03": {"maintenance": None}}
    assert json.loads(shown["after"]) == {"host node03": {"maintenance": "fan"}}
    assert shown["before_header"] == "ledger of cluster demo"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("begin_refused", ["guest wn3: target node03 is in maintenance: fan"]),
        ("import_refused", ["second.sqlite", "replace: true"]),
        ("no_host", ["operation fence", "`host` is needed"]),
        ("no_such_host", ["host elsewhere", "demo.oscarv.yml"]),
        ("half_observe", ["`host` and `guests` are needed, or `observations`"]),
    ],
)
def test_a_refusal_names_what_is_wrong_in_check_mode_too(
    results: dict[str, t.Any], step: str, words: list[str]
) -> None:
    for run in ("check", "real", "again"):
        for word in words:
            assert word in results[f"{step}_{run}"]["refused"]
    for step_again in REFUSED_AGAIN:
        assert "in flight; run oscarv.virt.settle" in results[f"{step_again}_again"]["refused"]


def test_what_the_operations_say(results: dict[str, t.Any]) -> None:
    assert results["rebuild_check"]["guests"] == ["wn1", "wn2", "wn3"]
    assert results["observe_real"]["states"] == {"wn2": "paused"}
    assert results["observe_real"]["host_keys"] == ["wn2"]
    (begun,) = results["begin_moves_real"]["moves"]
    assert (begun["guest"], begun["source"], begun["target"], begun["epoch_from"], begun["epoch_to"]) == (
        "wn1",
        "node01",
        "node02",
        1,
        2,
    )
    for run in ("look_real", "check", "real"):
        settled = results[f"settle_{run}"]
        assert [item["decision"] for item in settled["decisions"]] == ["commit"]
        assert [item["action"] for item in settled["cleanup"] if item["guest"] == "wn2"] == [
            "write_tombstone",
            "accept",
            "remove_leftovers",
        ]
    assert results["release_real"]["released"] == ["wn8"]
    assert results["export_document_real"]["document"]["cluster"] == "demo"
    assert results["upgrade_real"]["schema_before"] == results["upgrade_real"]["schema_after"] == 1
    assert (
        results["fence_check"]["revision"]
        == results["fence_real"]["revision"]
        == results["unfence_real"]["revision"] - 1
    )


def test_what_the_ledger_holds_in_the_end(results: dict[str, t.Any], folder: pathlib.Path) -> None:
    info = results["info"]
    assert info["url"] == f"sqlite:///{folder}/.oscarv/ledger.sqlite" and info["exists"] is True
    guests = {guest["name"]: guest for guest in info["guests"]}
    assert {name: (guest["host"], guest["epoch"]) for name, guest in guests.items()} == {
        "wn1": ("node02", 2),
        "wn2": ("node02", 2),
        "wn3": ("node01", 1),
    }
    assert guests["wn1"]["first_contact"] and guests["wn1"]["nics"][0]["addresses"] == ["10.0.4.1"]
    assert guests["wn2"]["host_key"] == ledgers.OTHER_KEY and guests["wn2"]["move"] is None
    hosts = {host["name"]: host for host in info["hosts"]}
    assert hosts["node01"]["builds"] == [ledgers.BUILD] and hosts["node01"]["memory"] == 2**36
    assert hosts["node03"]["cpu"]["model"] == EVIL, "text of a HostOS is never a template"
    assert [build["image"] for build in info["builds"]] == ["worker"]
    assert sorted((move["guest"], move["state"]) for move in info["moves"]) == [
        ("wn1", "committed"),
        ("wn2", "committed"),
    ]
    assert {row["who"] for row in info["history"]} == {"alice"}
    assert {row["what"] for row in info["history"]} >= {
        "record_host",
        "record_build",
        "record_host_build",
        "rebuild",
        "observe",
        "first_contact",
        "maintenance",
        "begin_move",
        "commit",
        "fence",
        "unfence",
    }


def test_reading_can_be_narrowed(results: dict[str, t.Any]) -> None:
    one = results["info_of_one"]
    assert [row["what"] for row in one["history"]] == ["commit", "begin_move"]
    assert [guest["name"] for guest in one["guests"]] == ["wn1"] and [move["guest"] for move in one["moves"]] == ["wn1"]
    none = results["info_of_none"]
    assert (none["exists"], none["revision"], none["guests"]) == (False, 0, [])


def test_people_find_the_host_keys(results: dict[str, t.Any], folder: pathlib.Path) -> None:
    text = (folder / ".oscarv" / "known_hosts").read_text()
    assert text.splitlines()[1:] == [
        f"wn1,10.0.4.1 {ledgers.KEY}",
        f"wn2,10.0.4.2 {ledgers.OTHER_KEY}",
        f"wn3,10.0.4.3 {ledgers.KEY}",
    ]


def test_an_exported_ledger_is_the_same_elsewhere(results: dict[str, t.Any], folder: pathlib.Path) -> None:
    first, third = (ledgers.ledger(folder, file=file).state() for file in (".oscarv/ledger.sqlite", "third.sqlite"))
    second = ledgers.ledger(folder, file="second.sqlite").state()
    assert third.guests == first.guests == second.guests and third.nics == first.nics == second.nics
    assert (folder / "backup.json").stat().st_mode & 0o777 == 0o600
