# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom nodes of role hostos_openvz let in and know: Ansible runs its tasks here, in a folder for each machine."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing as t

import pytest
import yaml

pytestmark = pytest.mark.long  # as the scenario openvz, which is left out of `make test` for its time

TOP = pathlib.Path(__file__).resolve().parents[3]
NODES = ("n1", "n2", "n3")
LXC = ("l1", "l2")
Vars = dict[str, t.Any]
#: An address that is none of the names, as the inventory would have it.
ADDRESS = {name: f"192.0.2.{number}" for number, name in enumerate((*NODES, *LXC), 1)}
HOST_KEY = {name: f"ssh-ed25519 AAAAhost{name}=" for name in ADDRESS}
FOREIGN = "ssh-ed25519 AAAAforeign somebody"

# Delegated tasks loop over names of machines, or over what was found on each.
OF = (
    "{{ hostvars[item[0].key if item is defined and item is not string else item | default(inventory_hostname)].root }}"
)
PATHS = {
    "__hostos_openvz_ssh": "{{ root }}/ssh",
    "__hostos_openvz_authorized": f"{OF}/authorized_keys",
    "__hostos_openvz_host_key": f"{OF}/host_key.pub",
    "__hostos_openvz_conf": "{{ root }}/vz.conf",
    "__hostos_openvz_sysctl_file": "{{ root }}/sysctl",
    "__hostos_openvz_state_dir": "{{ root }}/state",
}
PLAY: list[dict[str, t.Any]] = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "A part of the role",
                "ansible.builtin.include_role": {"name": "oscarv.virt.hostos_openvz", "tasks_from": "{{ part }}"},
                "vars": PATHS,
                "when": "'nodes' in group_names",
            }
        ],
    }
]


class Rack:
    """Machines that are folders."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.grouped = True
        self.nodes = list(NODES)
        for name in ADDRESS:
            (folder / name).mkdir()
            (folder / name / "host_key.pub").write_text(f"{HOST_KEY[name]} root@{name}\n")
            (folder / name / "authorized_keys").write_text(f"{FOREIGN}\n")

    def run(self, *more: str, part: str = "trust", fails: bool = False, **variables: t.Any) -> dict[str, int]:
        """Name -> how many tasks changed something there, as Ansible counts them."""
        machines = {
            name: {"ansible_host": ADDRESS[name], "root": str(self.folder / name)} for name in (*self.nodes, *LXC)
        }
        group: Vars = {"hosts": dict.fromkeys(self.nodes, {})}
        common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "part": part}
        groups: Vars = {"nodes": group, "oscarv_hypervisor_lxc": {"hosts": dict.fromkeys(LXC, {})}}
        if self.grouped:
            groups["oscarv_hypervisor_openvz"] = group
        tree = {"all": {"vars": {**common, **variables}, "hosts": machines, "children": groups}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(tree))
        (self.folder / "play.yml").write_text(yaml.safe_dump(PLAY, sort_keys=False))
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "OSCARV_"))}
        environment = {
            **clean,
            "ANSIBLE_COLLECTIONS_PATH": str(TOP / ".build/collections"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_FORKS": "2",
        }
        words = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "play.yml", *more]
        done = subprocess.run(
            words, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        self.said = done.stdout
        assert (done.returncode != 0) is fails, done.stdout[-6000:] + done.stderr[-4000:]
        return {name: int(count) for name, count in re.findall(r"^(\w+) +: ok=.* changed=(\d+)", done.stdout, re.M)}

    def text(self, name: str, file: str) -> str:
        path = self.folder / name / file
        return path.read_text() if path.exists() else ""

    def key(self, name: str) -> str:
        return " ".join(self.text(name, "ssh/id_ed25519.pub").split()[:2])

    def block(self, marker: str, *names: str) -> str:
        lines = "".join(f"{self.key(name)} oscarv.virt {name}\n" for name in names)
        return f"# BEGIN oscarv.virt {marker}\n{lines}# END oscarv.virt {marker}\n"

    def lets_in(self, name: str, *names: str) -> bool:
        """Whether exactly these nodes are let in, and who was before."""
        expected = self.block("hostos_openvz", *names) if names else ""
        return self.text(name, "authorized_keys") == f"{FOREIGN}\n{expected}"

    def lxc_lets_in(self, name: str, *names: str) -> bool:
        blocks = "".join(self.block(f"hostos_openvz {one}", one) for one in names)
        return self.text(name, "authorized_keys") == f"{FOREIGN}\n{blocks}"

    def knows(self, name: str, *names: str) -> bool:
        return self.text(name, "ssh/known_hosts") == "".join(f"{ADDRESS[one]} {HOST_KEY[one]}\n" for one in names)

    def make(self, *, consent: bool = False) -> None:
        """What a run on all machines leaves, which the first test proves; Ansible takes seconds for it."""
        for name in NODES:
            ssh = self.folder / name / "ssh"
            ssh.mkdir(mode=0o700)
            (ssh / "id_ed25519").touch()
            (ssh / "id_ed25519.pub").write_text(f"ssh-ed25519 AAAAkey{name}= oscarv.virt {name}\n")
        for name in NODES:
            others = [one for one in NODES if one != name]
            known = [*others, *LXC] if consent else others
            text = "".join(f"{ADDRESS[one]} {HOST_KEY[one]}\n" for one in known)
            (self.folder / name / "ssh/known_hosts").write_text(text)
            self.add(name, self.block("hostos_openvz", *others))
        for name in LXC if consent else ():
            self.add(name, "".join(self.block(f"hostos_openvz {one}", one) for one in NODES))

    def add(self, name: str, text: str) -> None:
        path = self.folder / name / "authorized_keys"
        path.write_text(path.read_text() + text)
        path.chmod(0o600)

    def everything(self) -> dict[str, str]:
        paths = sorted(path for name in ADDRESS for path in (self.folder / name).rglob("*") if path.is_file())
        return {str(path): path.read_text() for path in paths}


@pytest.fixture
def rack(tmp_path: pathlib.Path) -> Rack:
    return Rack(tmp_path)


@pytest.fixture
def made(rack: Rack) -> Rack:
    """Nodes that know each other, as the role leaves them, and HostOSes for containers that do not let them in."""
    rack.make()
    return rack


def test_check_says_what_a_run_does_and_a_second_run_does_nothing(rack: Rack) -> None:
    before = rack.everything()
    wish: Vars = {"hostos_openvz_moves_to_lxc": True}
    expected = rack.run("--check", **wish)
    assert rack.everything() == before
    assert rack.run(**wish) == expected
    # Its folder, its key, whom it lets in, that two let it in, whom it knows.
    assert expected == {**dict.fromkeys(NODES, 5), **dict.fromkeys(LXC, 0)}
    for name in NODES:
        others = [one for one in NODES if one != name]
        assert rack.lets_in(name, *others) and rack.knows(name, *others, *LXC)
    assert all(rack.lxc_lets_in(name, *NODES) for name in LXC)
    assert set(rack.run(**wish).values()) == {0}


def test_a_limit_forgets_nobody(made: Rack) -> None:
    before = made.everything()
    assert made.run("--limit", "n1,l1") == {"n1": 0, "l1": 0}
    assert made.everything() == before


def test_a_new_key_replaces_the_old_one_where_both_are_seen(made: Rack) -> None:
    old = made.key("n2")
    shutil.rmtree(made.folder / "n2/ssh")
    assert made.run("--limit", "n1,n2", "--check") == {"n1": 1, "n2": 3}
    assert made.run("--limit", "n1,n2") == {"n1": 1, "n2": 3}
    assert made.lets_in("n1", "n2", "n3") and old not in made.text("n1", "authorized_keys")
    assert old in made.text("n3", "authorized_keys") and made.knows("n2", "n1")


def test_who_left_the_inventory_is_forgotten(made: Rack) -> None:
    made.nodes = ["n1", "n2"]
    assert made.run("--limit", "n1") == {"n1": 2}
    assert made.lets_in("n1", "n2") and made.knows("n1", "n2")
    made.nodes = ["n1"]
    assert made.run("--check") == made.run() == {"n1": 2, "l1": 0, "l2": 0}
    assert made.lets_in("n1") and made.knows("n1")


def test_without_the_group_nobody_is_forgotten(made: Rack) -> None:
    before = made.everything()
    made.grouped = False
    assert made.run("--limit", "n1") == {"n1": 0}
    assert made.everything() == before


def test_consent_is_taken_back(rack: Rack) -> None:
    rack.make(consent=True)
    assert rack.run("--limit", "n1,l1") == {"n1": 2, "l1": 0}
    assert "Not in this run, or failed in it: l2. If they let n1 in by an earlier consent" in rack.said
    assert rack.lxc_lets_in("l1", "n2", "n3") and rack.lxc_lets_in("l2", *NODES) and rack.knows("n1", "n2", "n3")
    counts = rack.run("--check")
    assert counts == rack.run() == {"n1": 1, "n2": 2, "n3": 2, "l1": 0, "l2": 0}
    assert all(rack.lxc_lets_in(name) for name in LXC)


def test_with_consent_it_names_whom_it_does_not_see(made: Rack) -> None:
    assert made.run("--limit", "n1,l2", hostos_openvz_moves_to_lxc=True) == {"n1": 2, "l2": 0}
    assert "l1. They let n1 in only if an earlier run said so" in re.sub(r"\s+", " ", made.said)
    assert made.knows("n1", "n2", "n3", "l2") and made.lxc_lets_in("l2", "n1")
    assert made.run("--limit", "n1", hostos_openvz_moves_to_lxc=True) == {"n1": 0}


def test_hostoses_for_containers_forget_who_left_the_inventory(rack: Rack) -> None:
    rack.make(consent=True)
    rack.nodes = ["n2", "n3"]
    rack.run("--limit", "n2,l1,l2", hostos_openvz_moves_to_lxc=True)
    assert all(rack.lxc_lets_in(name, "n2", "n3") for name in LXC)


def test_absent_takes_everything_back(rack: Rack) -> None:
    rack.make(consent=True)
    template = rack.folder / "n1/templates/cache"
    (template / ".oscarv-killed/mount").mkdir(parents=True)
    ours = [f"debian-{'a' * 64}.tar.gz", f".debian-{'b' * 64}.tar.gz.partial", ".oscarv.lock"]
    theirs = ["debian-12-x86_64.tar.gz", ".hidden"]
    for name in (*ours, *theirs):
        (template / name).touch()
    conf = rack.folder / "n1/vz.conf"
    marker = "oscarv.virt hostos_openvz"
    conf.write_text(f'VIRTUOZZO=yes\n# BEGIN {marker}\nTEMPLATE="{template.parent}"\n# END {marker}\n')
    for more in (("--check",), ()):
        # vz.conf, authorized_keys here and there, files
        assert rack.run("--limit", "n1,l1,l2", *more, part="absent") == {"n1": 4, "l1": 0, "l2": 0}
    assert conf.read_text() == "VIRTUOZZO=yes\n" and not (rack.folder / "n1/ssh").exists()
    assert sorted(path.name for path in template.iterdir()) == sorted(theirs)
    assert rack.lets_in("n1") and all(rack.lxc_lets_in(name, "n2", "n3") for name in LXC)
    assert rack.run("--limit", "n1,l1,l2", part="absent")["n1"] == 0


def test_a_machine_without_keys_is_named(made: Rack) -> None:
    (made.folder / "n1/host_key.pub").write_text("nonsense\n")
    (made.folder / "n2/ssh/id_ed25519.pub").unlink()
    made.run(fails=True)
    said = re.sub(r"\s+", " ", made.said)
    assert f"n1: {made.folder}/n1/host_key.pub is missing or no ed25519 key" in said
    assert f"n2: {made.folder}/n2/ssh/id_ed25519.pub is missing" in said
