# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command and every task of the how-tos, as it is written, in the life of one lab: each page is walked from its
top to its end. What is not run has its reason here.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import typing as t

import pytest
from pages import HOWTO, ROOT, Step, shell, steps

sys.path.insert(0, str(ROOT / "tests" / "integration" / "ledger"))

from postgres import PASSWORD, Server

#: In this order; the first brings the lab up.
PAGES = ["lab", "hostos", "images", "deploy", "migrate", "guests", "placement", "ledger"]
#: Pages whose commands are run elsewhere.
ELSEWHERE = {
    "define": "test_define.py",
    "test": "its commands are the suites themselves",
    "containers": "molecule scenarios lxc and openvz",
    "xen": "molecule scenario xen",
}
#: Beginnings of steps that are not run as they stand -> why.
NOT_RUN = {
    "-e lab_hosts": "options, not a command; tests/integration/lab",
    "- name: Make the guests what their specs say": "playbooks/deploy.yml is this task",
    "createuser": "the server of the test has its user and its database already",
}
#: Beginnings of steps that end the life of what the other pages need: run last, in this order.
LAST = [
    "ansible-playbook oscarv.virt.evacuate -i inventories/mine",
    "ansible-playbook oscarv.virt.teardown",
    "ansible-playbook oscarv.virt.lab -e lab_name=demo -e lab_inventory_dir=$PWD/inventories/demo -e lab_state=absent",
]
#: What a reader is told to expect to fail -> a word of the message.
FAILS = {
    "ansible-playbook oscarv.virt.deploy -i inventories/demo -e oscarv_fenced=node02": "is fenced and has its disks",
    'ansible-playbook oscarv.virt.settle -i inventories/demo -e \'{"oscarv_resolve"': "wn1",
}


class World:
    """A folder as the how-tos suppose it: inventories/demo, and inventories/mine, which is the same."""

    def __init__(self, folder: pathlib.Path, server: Server) -> None:
        self.folder, self.server = folder, server
        shutil.copytree(
            ROOT / "inventories", folder / "inventories", ignore=shutil.ignore_patterns(".oscarv", "hosts.yml")
        )
        (folder / "inventories" / "mine").symlink_to("demo")
        (folder / "backups").mkdir()
        self.late: list[Step] = []

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        database = {
            "PGHOST": str(self.server.folder),
            "PGPORT": str(self.server.port),
            "PGUSER": "oscarv",
            "PGPASSWORD": PASSWORD,
        }
        return shell(script, self.folder, **database)

    def run(self, step: Step) -> str:
        """Run a step as a reader would; fail with what it printed."""
        script = step.text
        if step.kind in ("play", "tasks"):
            play = step.text.replace("/var/backups", str(self.folder / "backups"))
            if step.kind == "tasks":
                play = "- hosts: oscarv_hostos\n  gather_facts: false\n  tasks:\n" + textwrap.indent(play, "    ")
            (self.folder / "play.yml").write_text(play)
            script = "ansible-playbook play.yml -i inventories/demo"
        script = script.replace("postgresql://oscarv@db.example.org", "postgresql://oscarv@")
        script = script.replace("/oscarv PGPASSWORD=...", f"/oscarv?host={self.server.folder}&port={self.server.port}")
        done = self.shell(script)
        word = starts(step, FAILS)
        if word is not None:
            assert done.returncode and word in done.stdout, f"{step.text}\n{done.stdout[-5000:]}"
        else:
            assert done.returncode == 0, f"{step.text}\n{done.stdout[-5000:]}"
        return done.stdout

    def playbook(self, words: str) -> str:
        return self.run(Step("shell", f"ansible-playbook oscarv.virt.{words}"))


def starts(step: Step, table: t.Mapping[str, str]) -> str | None:
    return next((value for beginning, value in table.items() if step.text.startswith(beginning)), None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    if os.geteuid() != 0:
        pytest.fail("these tests make real machines: run them as root")
    server = Server()
    try:
        server.start()
        server.sql("CREATE DATABASE oscarv")
        made = World(tmp_path_factory.mktemp("howto"), server)
        yield made
    finally:
        server.stop()
    inventory = made.folder / "inventories" / "demo"
    if (inventory / "hosts.yml").exists():  # a step failed before the lab was taken away
        made.shell(
            "ansible oscarv_builder -i inventories/demo -m include_role -a 'name=oscarv.virt.image tasks_from=unserve'"
        )
        made.shell(LAST[-1])


def pull_the_plug(world: World) -> None:
    world.shell("ansible node02 -i inventories/demo -m ansible.builtin.command -a 'systemctl poweroff --force --force'")


def recreate(world: World) -> None:
    """The page's next sentence: with consent the guests of the lost HostOS come up elsewhere, empty."""
    done = world.shell(
        "ansible-playbook oscarv.virt.deploy -i inventories/demo -e oscarv_recreate=true -e oscarv_fenced=node02"
    )
    assert done.returncode == 0, done.stdout[-5000:]


def take_stale(world: World) -> None:
    """The page's last sentence; node02 is switched on again."""
    world.run(steps(HOWTO / "lab.md")[0])
    # It has only begun to boot, and cannot shut down before it is through.
    patience = "-e oscarv_shutdown_timeout=600"
    world.playbook(f"deploy -i inventories/demo -e oscarv_prune=remove -e oscarv_remove_disks=true {patience}")


def back_into_service(world: World) -> None:
    world.run(Step("tasks", "- oscarv.virt.ledger: {operation: unfence, host: node02}\n  run_once: true\n"))


def lose_ledger(world: World) -> None:
    for left in (world.folder / "inventories" / "demo" / ".oscarv").glob("ledger.sqlite*"):
        left.rename(world.folder / left.name)


def nothing_changes(world: World) -> None:
    world.playbook("deploy -i inventories/demo")  # the ledger learns of the specs, which no mark holds
    text = world.playbook("deploy -i inventories/demo --diff")
    recap = text.split("PLAY RECAP")[1]
    assert re.search(r"changed=0", recap) and not re.search(r"changed=[1-9]", recap), text[-9000:]


#: (page, beginning of the step) -> what happens before and after it
BEFORE: dict[tuple[str, str], t.Callable[[World], None]] = {
    ("deploy", "ansible-playbook oscarv.virt.deploy -i inventories/demo -e oscarv_fenced"): pull_the_plug,
    ("ledger", "ansible-playbook oscarv.virt.hostos"): lose_ledger,
}
AFTER: dict[tuple[str, str], t.Callable[[World], None]] = {
    ("deploy", "ansible-playbook oscarv.virt.deploy -i inventories/demo -e oscarv_fenced"): recreate,
    ("deploy", "- name: Take node02 back"): take_stale,
    ("ledger", "ansible-playbook oscarv.virt.hostos"): nothing_changes,
    ("ledger", "- name: Say that node02 is off"): back_into_service,
}


def hook(hooks: t.Mapping[tuple[str, str], t.Callable[[World], None]], page: str, step: Step, world: World) -> None:
    for (where, beginning), does in hooks.items():
        if where == page and step.text.startswith(beginning):
            does(world)


def test_no_page_and_no_exception_is_forgotten() -> None:
    assert sorted([*PAGES, *ELSEWHERE]) == sorted(path.stem for path in HOWTO.glob("*.md"))
    texts = [step.text for page in PAGES for step in steps(HOWTO / f"{page}.md")]
    for beginning in [*LAST, *FAILS, *(word for word in NOT_RUN if word != "-e lab_hosts")]:
        assert any(text.startswith(beginning) for text in texts), f"no page says {beginning!r} any more"
    for page, beginning in [*BEFORE, *AFTER]:
        assert any(step.text.startswith(beginning) for step in steps(HOWTO / f"{page}.md")), f"{page}: {beginning!r}"


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(world: World, page: str) -> None:
    done = 0
    for step in steps(HOWTO / f"{page}.md"):
        if step.kind == "data" or starts(step, NOT_RUN) is not None:
            continue
        if any(step.text.startswith(beginning) for beginning in LAST):
            world.late.append(step)
            continue
        hook(BEFORE, page, step, world)
        world.run(step)
        hook(AFTER, page, step, world)
        done += 1
    assert done or page == "guests"


@pytest.mark.long
@pytest.mark.parametrize("beginning", LAST)
def test_the_end_of_its_life(world: World, beginning: str) -> None:
    step = next((step for step in world.late if step.text.startswith(beginning)), None)
    assert step, "the page that says this was not walked"
    if beginning == LAST[-1]:
        world.shell(
            "ansible oscarv_builder -i inventories/demo -m include_role -a 'name=oscarv.virt.image tasks_from=unserve'"
        )
    world.run(step)
