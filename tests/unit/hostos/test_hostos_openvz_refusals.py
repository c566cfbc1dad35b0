# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role hostos_openvz refuses: Ansible runs the role's look and refusals on this machine; they change nothing.

All machines of one run look at this one, each with a /proc of its own; the tools are the double.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml

TOP = pathlib.Path(__file__).resolve().parents[3]
DOUBLE = TOP / "tests/openvz_double"

Vars = dict[str, t.Any]
NODE: Vars = {"folders": ["vz", "bc"], "hostos_openvz_any_kernel": True}
EL6: Vars = {"os": ["RedHat", "CentOS", "6.10"], "hostos_openvz_mode": "legacy_repo"}
EL7: Vars = {"os": ["RedHat", "CentOS", "7.9"], "hostos_openvz_mode": "vz7_convert"}
DEBIAN: Vars = {"os": ["Debian", "Debian", "12.5"]}
REPOSITORY: Vars = {
    "hostos_openvz_repository": "https://mirror.example.org/openvz.repo",
    "hostos_openvz_repository_key": "https://mirror.example.org/key",
}
RELEASE: Vars = {"hostos_openvz_release_url": "https://mirror.example.org/Packages"}

#: Name of the machine -> (its variables, what each of its refusals holds, in order).
MACHINES: dict[str, tuple[Vars, list[str]]] = {
    "node": (NODE, []),
    "kernel": ({**NODE, "hostos_openvz_any_kernel": False}, ["which is none of OpenVZ's (stab, vz7, vz9)"]),
    "container": ({**NODE, "folders": ["vz"]}, ["is an OpenVZ container itself"]),
    "plain": ({"folders": []}, ["Virtuozzo and OpenVZ 7 are installed from their ISO"]),
    "toolless": ({**NODE, "tools": False}, ["is no OpenVZ node: vzctl does not answer"]),
    "nfs": (
        {**NODE, "hostos_openvz_pools": [{"name": "a", "type": "dir", "path": "/a"}, {"name": "san", "type": "nfs"}]},
        ["hostos_openvz_pools: san: containers of OpenVZ have their files on the node itself"],
    ),
    "container-to-convert": (
        {
            **EL7,
            **RELEASE,
            "folders": ["vz"],
            "tools": False,
            "hostos_openvz_accept_conversion": "container-to-convert",
        },
        ["is an OpenVZ container itself"],
    ),
    "el6": ({**EL6, **REPOSITORY}, []),
    "el6-unsaid": (EL6, ["(a .repo file's URL) and hostos_openvz_repository_key"]),
    "el6-keyless": ({**EL6, **REPOSITORY, "hostos_openvz_repository_key": ""}, ["hostos_openvz_repository_key"]),
    "debian-as-el6": (
        {**EL6, **REPOSITORY, **DEBIAN},
        ["is Debian 12.5; OpenVZ's packages for legacy_repo are for EL6"],
    ),
    "el7": ({**EL7, **RELEASE, "hostos_openvz_accept_conversion": "el7"}, []),
    "el7-unaccepted": ({**EL7, **RELEASE}, ["hostos_openvz_accept_conversion: el7-unaccepted"]),
    "el7-other": (
        {**EL7, **RELEASE, "hostos_openvz_accept_conversion": "el7"},
        ["hostos_openvz_accept_conversion: el7-other"],
    ),
    "el7-unsaid": ({**EL7, "hostos_openvz_accept_conversion": "el7-unsaid"}, ["hostos_openvz_release_url"]),
    "el9": (
        {**EL7, **RELEASE, "os": ["RedHat", "Rocky", "9.4"], "hostos_openvz_accept_conversion": "el9"},
        ["is Rocky 9.4; only an EL7 machine can be converted to OpenVZ 7"],
    ),
    "everything": (
        {**EL7, **DEBIAN},
        [
            "only an EL7 machine can be converted",
            "hostos_openvz_accept_conversion: everything",
            "hostos_openvz_release_url",
        ],
    ),
}

PLAY: list[dict[str, t.Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "environment": {"PATH": "{{ path }}"},
        "tasks": [
            {
                "name": "Be such a machine",
                "ansible.builtin.set_fact": {
                    "cacheable": True,
                    "os_family": "{{ os[0] }}",
                    "distribution": "{{ os[1] }}",
                    "distribution_version": "{{ os[2] }}",
                    "distribution_major_version": "{{ os[2] | split('.') | first }}",
                },
            },
            {
                "name": "Look, and refuse",
                "block": [
                    {"ansible.builtin.include_role": {"name": "oscarv.virt.hostos_openvz", "tasks_from": "preflight"}},
                    {"ansible.builtin.set_fact": {"refusals": []}},
                ],
                "rescue": [
                    {"ansible.builtin.set_fact": {"refusals": "{{ ansible_failed_result.msg.splitlines() }}"}},
                ],
            },
            {
                "name": "Write all answers down",
                "ansible.builtin.copy": {
                    "content": "{{ dict(ansible_play_hosts | zip(said)) | to_json }}",
                    "dest": "{{ playbook_dir }}/answers.json",
                    "mode": "0600",
                },
                "run_once": True,
                "vars": {"said": "{{ ansible_play_hosts | map('extract', hostvars, 'refusals') }}"},
            },
        ],
    }
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the role said to each machine, a line for each refusal."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "root/proc/vz").mkdir(parents=True)
    (folder / "root/etc/vz/conf").mkdir(parents=True)
    (folder / "root/etc/vz/vz.conf").touch()
    hosts = {}
    for name, (wished, _said) in MACHINES.items():
        proc = folder / name / "proc"
        proc.mkdir(parents=True)
        for made in wished.get("folders", []):
            (proc / made).mkdir()
        # A node's tools are found before this machine's own, which has none.
        tools = f"{DOUBLE}:" if wished.get("tools", bool(wished.get("folders"))) else ""
        own = {key: value for key, value in wished.items() if key not in ("folders", "tools")}
        hosts[name] = {
            "os": DEBIAN["os"],
            "path": f"{tools}{os.environ['PATH']}",
            "hostos_openvz_proc": str(proc),
            **own,
        }
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
    (folder / "play.yml").write_text(yaml.safe_dump(PLAY, sort_keys=False))
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "OSCARV_"))}
    environment = {
        **clean,
        "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".build/collections"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_PIPELINING": "1",
        "OPENVZ_DOUBLE_ROOT": str(folder / "root"),
        "OPENVZ_DOUBLE_BACKEND": "recording",
    }
    words = [sys.executable, "-m", "ansible", "playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml")]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return t.cast("dict[str, list[str]]", json.loads((folder / "answers.json").read_text()))


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_refused_with_every_reason(answers: dict[str, list[str]], name: str) -> None:
    said, expected = answers[name], MACHINES[name][1]
    assert len(said) == len(expected), said
    for line, part in zip(said, expected, strict=True):
        assert part in line
