# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a page of the documentation tells its reader to run, and running it."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import textwrap
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[3]
HOWTO = ROOT / "docs" / "how-to"
PROGRAM = re.compile(r"(ansible[\w-]*|make|python3?|ssh|create(user|db)|export|[A-Z_]+=\S+)(\s|$)")


class Step(t.NamedTuple):
    """`kind` is shell (lines for a shell), play (YAML of a play), tasks (YAML of tasks) or data (other YAML)."""

    kind: str
    text: str


def steps(page: pathlib.Path) -> list[Step]:
    """The page's indented and fenced blocks that are commands or YAML, in its order."""
    text = page.read_text()
    blocks = re.finditer(r"^```yaml\n((?:(?!```).*\n)*)```$|((?:^ {4}.*\n)+)", text, re.MULTILINE)
    found = []
    for block in blocks:
        fenced, indented = block.groups()
        if fenced:
            found.append(Step(kind_of(fenced), fenced))
        elif PROGRAM.match(textwrap.dedent(indented)):
            found.append(Step("shell", textwrap.dedent(indented)))
    return found


def kind_of(text: str) -> str:
    if not text.startswith("- "):
        return "data"
    return "play" if re.search(r"^  hosts:", text, re.MULTILINE) else "tasks"


def shell(script: str, cwd: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines as a reader of the documentation would, in a folder of their own."""
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=cwd,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )
