# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry: `python3 -m oscarv_lab look|up|down [--check]`, the wish as JSON on stdin, the answer as JSON on stdout."""

from __future__ import annotations

import json
import os
import sys

from .base import LabError, Report
from .lab import Lab
from .machine import Machine
from .qemu import QemuMachine
from .wish import parse

#: Exit code for a LabError: its text on stderr is for people. Python's own 1 is for what the lab did not foresee.
REFUSED = 3


def main(arguments: list[str]) -> int:
    os.umask(0o022)  # folders of a HostOS's disk are made here; its users must get through them
    verb = arguments[0]
    if verb == "machine":  # the child that becomes a HostOS; see Machine.start
        data = json.loads(arguments[2])
        (QemuMachine if "memory" in data else Machine).from_plain(data).become(int(arguments[1]))
    report = Report(check="--check" in arguments)
    answer: dict[str, object] = {}
    try:
        lab = Lab(parse(json.load(sys.stdin)), report)
        if verb == "look":
            answer = lab.look()
        elif verb == "up":
            answer = lab.up()
        elif verb == "down":
            lab.down()
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    json.dump({**answer, "actions": report.actions, "warnings": report.warnings}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
