# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tutorial's commands, as they are written, in their order."""

from __future__ import annotations

import re
import subprocess
import typing as t

import pytest
from pages import ROOT, shell

TUTORIAL = ROOT / "docs" / "tutorial.md"


def commands() -> list[str]:
    return re.findall(r"^    (\S.*)$", TUTORIAL.read_text(), re.MULTILINE)


@pytest.fixture
def taken_away() -> t.Iterator[None]:
    yield
    subprocess.run(["make", "demo-down"], cwd=ROOT, check=False)


@pytest.mark.long
def test_every_command_of_the_tutorial_works(taken_away: None) -> None:
    lines = commands()
    assert any("oscarv.virt.migrate" in line for line in lines)
    script = "set -e\n" + "".join(f"echo '+ {line}'\n{line}\n" for line in lines)
    done = shell(script, ROOT)
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"moved live to node02", done.stdout), done.stdout[-6000:]
