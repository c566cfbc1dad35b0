# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection makes of somebody's real OpenVZ node. Reads only, and proves that nothing was changed.

OSCARV_OPENVZ_HOST=user@host names the node; OSCARV_OPENVZ_VARS (JSON) has variables for it, e.g. the Python to use.
What was found is kept in .build/openvz-node.json, for a report of what differs from the double.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import typing as t

import pytest
import yaml

NODE = os.environ.get("OSCARV_OPENVZ_HOST", "")
TOP = pathlib.Path(__file__).resolve().parents[3]
FOUND = TOP / ".build/openvz-node.json"
pytestmark = pytest.mark.skipif(not NODE, reason="OSCARV_OPENVZ_HOST names no OpenVZ node")

#: What must be the same afterwards: every file of configuration, every private area, what runs, our own state.
_SUMS = """
find /etc/vz /etc/sysctl.d /root/.ssh /etc/oscarv /var/lib/oscarv-host -type f -exec sha256sum {} + 2>/dev/null | sort
find /vz/private /vz/root /vz/template/cache -maxdepth 1 2>/dev/null | sort
vzlist -a -H -o ctid,status 2>&1; echo "vzlist ended with $?"
"""
#: One line per container: number, then what `vzctl status` says.
_STATUS = 'for x in $(vzlist -a -H -o ctid); do echo "$x $(vzctl status "$x" 2>/dev/null)"; done'

ANSWERS = ("before", "refusals", "hostos", "guests", "status", "after")

PLAY: list[dict[str, t.Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "become": "{{ ansible_user != 'root' }}",
        "tasks": [
            {"ansible.builtin.shell": _SUMS, "register": "before", "changed_when": False},
            {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "distribution"]}},
            {
                "block": [
                    {"ansible.builtin.include_role": {"name": "oscarv.virt.hostos_openvz", "tasks_from": "preflight"}},
                    {"ansible.builtin.set_fact": {"refusals": []}},
                ],
                "rescue": [{"ansible.builtin.set_fact": {"refusals": "{{ ansible_failed_result.msg.splitlines() }}"}}],
            },
            {"oscarv.virt.hostos_info": {"hypervisor": "openvz"}, "register": "hostos"},
            {"oscarv.virt.guest_info": {"hypervisor": "openvz"}, "register": "guests"},
            {"ansible.builtin.shell": _STATUS, "register": "status", "changed_when": False},
            {"ansible.builtin.shell": _SUMS, "register": "after", "changed_when": False},
            {
                "ansible.builtin.copy": {
                    "content": "{{ {" + ", ".join(f"'{name}': {name}" for name in ANSWERS) + "} | to_nice_json }}",
                    "dest": str(FOUND),
                    "mode": "0600",
                },
                "delegate_to": "localhost",
                "become": False,
            },
        ],
    }
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    folder = tmp_path_factory.mktemp("node")
    user, _at, address = NODE.rpartition("@")
    variables = {"ansible_host": address, "ansible_user": user or "root"}
    variables.update(json.loads(os.environ.get("OSCARV_OPENVZ_VARS", "{}")))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"node": variables}}}))
    (folder / "play.yml").write_text(yaml.safe_dump(PLAY, sort_keys=False))
    FOUND.unlink(missing_ok=True)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".build/collections")}
    words = ["ansible-playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml")]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return t.cast("dict[str, t.Any]", json.loads(FOUND.read_text()))


def test_the_role_takes_it_for_a_node(found: dict[str, t.Any]) -> None:
    assert found["refusals"] == []


def test_its_tools_are_known(found: dict[str, t.Any]) -> None:
    assert found["hostos"]["hostos"]["hypervisor"] == "openvz"
    assert found["hostos"]["hostos"]["versions"]["vzctl"]


def test_every_container_is_read_as_vzctl_says(found: dict[str, t.Any]) -> None:
    everybody = [*found["guests"]["guests"].values(), *found["guests"]["foreign"]]
    words = [line.split() for line in found["status"]["stdout_lines"]]
    said = sorted("running" if "running" in line else "paused" if "paused" in line else "stopped" for line in words)
    # A container that we paused is called running by the legacy tools.
    legacy = found["hostos"]["hostos"]["versions"]["vzctl"].startswith("4.")
    read = sorted("running" if legacy and one["state"] == "paused" else one["state"] for one in everybody)
    assert read == said


def test_nothing_was_changed(found: dict[str, t.Any]) -> None:
    assert found["before"]["stdout_lines"] == found["after"]["stdout_lines"]
