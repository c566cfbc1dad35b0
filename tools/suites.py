# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run test suites one after the other and print a table of minutes: suites.py check | test | long | NAME ...

A suite that fails does not stop the others. Output goes to the terminal and to .build/suites/NAME.log. A suite that
runs longer than its limit is ended, process group and all, and has failed.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
LOGS = TOP / ".build" / "suites"

#: name -> (command, limit in minutes)
SUITES: dict[str, tuple[str, float]] = {
    "lint": ("tools/lint", 5),
    "unit": ("python -m pytest tests/unit -n 2", 8),
    "sanity": ("tools/sanity", 10),
    "docs": ("tools/docs --check", 5),
    "importer": ("tools/importer", 5),
    "cores": ("tools/cores && tools/cores-newest", 12),
    "integration": ("python -m pytest tests/integration -m 'not long'", 45),
    "kvm": ("tools/molecule kvm", 30),
    "demo": ("tools/demo", 20),
    "xen": ("tools/molecule xen", 90),
    "long": ("python -m pytest tests/integration -m long", 120),
}
GROUPS: dict[str, list[str]] = {
    "check": ["lint", "unit"],
    "test": [name for name in SUITES if name not in ("long", "xen")],
    "long": ["long"],
}


def run(name: str) -> tuple[int, float]:
    command, minutes = SUITES[name]
    print(f"\n=== {name}: {command}", flush=True)
    started = time.monotonic()
    with (LOGS / f"{name}.log").open("w") as log:
        child = subprocess.Popen(
            ["bash", "-c", command],
            cwd=TOP,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(int(minutes * 60))
        try:
            for line in child.stdout or ():
                log.write(line)
                sys.stdout.write(line)
                sys.stdout.flush()
            code = child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGTERM)
            raise
        finally:
            signal.alarm(0)
    return code, time.monotonic() - started


def main(words: list[str]) -> int:
    names = [name for word in words for name in GROUPS.get(word, [word])]
    unknown = [name for name in names if name not in SUITES]
    if unknown or not names:
        print(f"unknown suite {unknown}; suites: {', '.join(SUITES)}; groups: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = [(name, *run(name)) for name in names]
    print(f"\n{'suite':<14}{'result':<10}{'minutes':>8}")
    for name, code, seconds in results:
        print(f"{name:<14}{'passed' if code == 0 else f'failed {code}':<10}{seconds / 60:>8.1f}")
    print(f"{'total':<24}{sum(seconds for *_rest, seconds in results) / 60:>8.1f}")
    failed = sum(1 for _name, code, _seconds in results if code)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
