# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""House rules that no linter knows; prints each breach and ends with 1 if there is one.

- every module is in the action group of meta/runtime.yml, and documents the attributes
- every action plugin has its module stub
- every role has argument_specs for exactly the variables of its defaults, and a README
- no ignore files, no code in __init__.py, no file of plugins/ over 450 lines
"""

from __future__ import annotations

import pathlib
import re
import sys

import yaml

TOP = pathlib.Path(__file__).resolve().parents[1]


def modules() -> list[str]:
    runtime = yaml.safe_load((TOP / "meta/runtime.yml").read_text())
    grouped = set(runtime["action_groups"]["virt"])
    found = {path.stem for path in (TOP / "plugins/modules").glob("*.py")}
    wrong = [f"meta/runtime.yml: action_groups.virt lacks {name}" for name in sorted(found - grouped)]
    wrong += [
        f"meta/runtime.yml: action_groups.virt names {name}, which is no module" for name in sorted(grouped - found)
    ]
    for name in sorted(found):
        text = (TOP / f"plugins/modules/{name}.py").read_text()
        for fragment in ("oscarv.virt.attributes", "oscarv.virt.attributes.actiongroup_virt"):
            if not re.search(rf"- {re.escape(fragment)}\b", text):
                wrong.append(f"plugins/modules/{name}.py: does not extend {fragment}")
    for path in (TOP / "plugins/action").glob("*.py"):
        if path.stem not in found:
            wrong.append(f"plugins/action/{path.name}: has no module stub plugins/modules/{path.name}")
    return wrong


def roles() -> list[str]:
    wrong = []
    for role in sorted(path for path in (TOP / "roles").iterdir() if path.is_dir()):
        for needed in ("README.md", "meta/main.yml", "meta/argument_specs.yml", "defaults/main.yml"):
            if not (role / needed).is_file():
                wrong.append(f"roles/{role.name}: {needed} is missing")
        if not (role / "meta/argument_specs.yml").is_file() or not (role / "defaults/main.yml").is_file():
            continue
        specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
        described = {option for entry in specs.values() for option in (entry.get("options") or {})}
        defaults = set(yaml.safe_load((role / "defaults/main.yml").read_text()) or {})
        public = {name for name in defaults if not name.startswith("__")}
        wrong += [
            f"roles/{role.name}: {name} has a default and no argument spec" for name in sorted(public - described)
        ]
        wrong += [
            f"roles/{role.name}: {name} does not begin with the role's name"
            for name in sorted(public)
            if not name.startswith(role.name)
        ]
    return wrong


def files() -> list[str]:
    wrong = [
        f"{path.relative_to(TOP)}: ignore files are not allowed" for path in (TOP / "tests").glob("sanity/ignore*")
    ]
    for path in (TOP / "plugins").rglob("*.py"):
        text = path.read_text()
        if path.name == "__init__.py" and text.strip():
            wrong.append(f"{path.relative_to(TOP)}: code in __init__.py")
        if text.count("\n") > 450:
            wrong.append(f"{path.relative_to(TOP)}: {text.count(chr(10))} lines; 450 at most")
    return wrong


if __name__ == "__main__":
    breaches = modules() + roles() + files()
    print("\n".join(breaches) or "collection rules hold")
    sys.exit(1 if breaches else 0)
