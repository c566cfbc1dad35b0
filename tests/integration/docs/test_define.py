# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `How to define a cluster` shows is a definition, what it adds to it stays one, and the errors are as it says."""

from __future__ import annotations

import pathlib
import re

import pytest
from pages import HOWTO, Step, shell, steps

PAGE = HOWTO / "define.md"
STEPS = steps(PAGE)
BASE = STEPS[0].text


def inventory(folder: pathlib.Path, definition: str, script: str) -> str:
    """What the commands say of demo.oscarv.yml with this text, for somebody who has an ssh key."""
    (folder / "demo.oscarv.yml").write_text(definition)
    key = folder / ".ssh" / "id_ed25519.pub"
    key.parent.mkdir(exist_ok=True)
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8FT0gQbJ0Lk1Qy3ZJbWTO0tU6ncGvRnGY1c9dVmXvA me@here\n")
    wish = {"HOME": str(folder), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "COLUMNS": "1000"}
    done = shell(script, folder, **wish)
    return f"{done.returncode}\n{done.stdout}"


def test_start_small(tmp_path: pathlib.Path) -> None:
    (look,) = [step for step in STEPS if step.kind == "shell"]
    said = inventory(tmp_path, BASE, look.text)
    assert (
        said.startswith("0\n")
        and "@oscarv_unplaced:" in said
        and "wn03" in said
        and '"oscarv_partition": "workers"' in said
    )


def test_the_errors_are_those_that_the_page_shows(tmp_path: pathlib.Path) -> None:
    shown = re.findall(r"^    (demo\.oscarv\.yml:\d+: .*)$", PAGE.read_text(), re.MULTILINE)
    assert len(shown) == 2
    broken = BASE.replace("on: hosts", "on: host").replace("memory: 1 GiB", 'memory: "1024"')
    said = inventory(tmp_path, broken, "ansible-inventory -i demo.oscarv.yml --graph")
    assert not said.startswith("0\n")
    for line in shown:
        assert line.removeprefix("demo.oscarv.yml") in said, said


def additions() -> list[Step]:
    return [step for step in STEPS[1:] if step.kind == "data" and "!vault" not in step.text]


@pytest.mark.parametrize("step", additions(), ids=lambda step: step.text.split(":")[0].strip())
def test_what_the_page_adds_is_understood(tmp_path: pathlib.Path, step: Step) -> None:
    """An indented block belongs to partition `workers`, another one to the top."""
    if step.text.startswith("    "):
        before, workers = BASE.split("  workers:\n")
        for key in re.findall(r"^    (\w+):", step.text, re.MULTILINE):
            workers = re.sub(rf"^    {key}:.*\n", "", workers, flags=re.MULTILINE)
        definition = f"{before}  workers:\n{step.text}{workers}"
    else:
        definition = BASE + step.text
    assert definition != BASE
    said = inventory(tmp_path, definition, "ansible-inventory -i demo.oscarv.yml --graph")
    assert said.startswith("0\n") and "@oscarv_guest:" in said, said
