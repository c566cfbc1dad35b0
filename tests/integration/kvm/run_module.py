# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one of our modules as Ansible does, without a controller: arguments in, JSON out.

In this process (`run_module`), or, to be killed, as a program: `python run_module.py NAME < arguments.json`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import pathlib
import subprocess
import sys
import typing as t

MODULES = "ansible_collections.oscarv.virt.plugins.modules"


def run_module(
    name: str, arguments: t.Mapping[str, t.Any], *, check: bool = False, diff: bool = True
) -> dict[str, t.Any]:
    """What the module returns; `failed` is set if it failed."""
    from ansible.module_utils import basic

    module = importlib.import_module(f"{MODULES}.{name}")
    out = io.StringIO()
    everything = {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": everything}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        module.main()
    result: dict[str, t.Any] = json.loads(out.getvalue())
    return result


def start_module(name: str, arguments: t.Mapping[str, t.Any]) -> subprocess.Popen[str]:
    """The same in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdin = t.cast(t.IO[str], process.stdin)
    stdin.write(json.dumps(arguments))
    stdin.close()
    return process


def _main() -> None:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
    import conftest

    conftest.pytest_configure()
    sys.stdout.write(json.dumps(run_module(sys.argv[1], json.load(sys.stdin))))


if __name__ == "__main__":
    _main()
