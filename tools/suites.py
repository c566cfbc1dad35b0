# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run test suites and print a table of minutes: suites.py check | test | long | NAME ...

Suites that emulate machines run one after the other; most of that time they wait. The others run BESIDE them,
with a lower priority, and their output is shown when they have ended. A suite that fails does not stop the others. All
output goes to .build/suites/NAME.log too. A suite that runs longer than its limit is ended, process group and all, and
has failed; it then takes away what it started, as it does after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
LOGS = TOP / ".build" / "suites"

#: name -> (command, limit in minutes)
SUITES: dict[str, tuple[str, float]] = {
    "lint": ("tools/lint", 15),
    "unit": ("python -m pytest tests/unit -n 2", 25),
    "sanity": ("tools/sanity", 25),
    "docs": ("tools/docs --check", 15),
    "importer": ("tools/importer", 15),
    "cores": ("tools/cores && tools/cores-newest", 40),
    "ledger": ("python -m pytest tests/integration/ledger -m 'not long'", 30),
    "integration": (
        "python -m pytest tests/integration -m 'not long' --ignore tests/integration/ledger --durations=15"
        " --junit-xml .build/suites/integration.xml",
        45,
    ),
    "kvm": ("tools/molecule kvm", 30),
    "demo": ("tools/demo", 20),
    "lxc": ("tools/molecule lxc", 30),
    "openvz": ("tools/molecule openvz", 40),
    "xen": ("tools/molecule xen", 150),
    "long": ("python -m pytest tests/integration -m long", 120),
}
#: Those that need little but a processor: no emulated one.
BESIDE = {"lint", "unit", "sanity", "docs", "importer", "cores", "ledger", "openvz"}
#: Compares the machine before and after: nothing may run beside it.
ALONE = {"demo"}
#: Not part of `test`, so that all of it stays under 45 minutes; each has a target of its own in the Makefile.
APART = {"long", "xen", "lxc"}
#: Seconds from being told to end to being killed.
MERCY = 180
#: Lines of a failed suite's output that are shown again at the end.
TAIL = 15
#: Lets others go first. Linux groups by session, and the group's own priority is what counts between groups.
YIELD = "renice -n 19 $$ >/dev/null; echo 19 2>/dev/null >/proc/self/autogroup || true; "
GROUPS: dict[str, list[str]] = {
    "check": ["lint", "unit"],
    "test": [name for name in SUITES if name not in APART],
    "long": ["long"],
}


class Runner:
    """Runs suites; `results` are (name, exit code, seconds) in the order in which they ended."""

    def __init__(self) -> None:
        self.results: list[tuple[str, int, float]] = []
        self.children: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def lane(self, names: list[str], *, beside: bool) -> None:
        for name in names:
            if not self.stopped:
                self.results.append((name, *self.run(name, beside=beside)))

    def run(self, name: str, *, beside: bool) -> tuple[int, float]:
        command, minutes = SUITES[name]
        title = f"\n=== {name}: {command}"
        print(f"{title} (beside)" if beside else title, flush=True)
        started = time.monotonic()
        with (LOGS / f"{name}.log").open("w") as log:
            child = subprocess.Popen(
                ["bash", "-c", f"{YIELD if beside else ''}{command}"],
                cwd=TOP,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
            )
            self.children.add(child)
            limit = threading.Timer(minutes * 60, end, (child,))
            limit.daemon = True
            limit.start()
            for line in child.stdout or ():
                log.write(line)
                if not beside:
                    print(line, end="", flush=True)
            code = child.wait()
            limit.cancel()
            self.children.discard(child)
        if beside:
            print(f"\n=== {name} ended with {code}:\n{(LOGS / f'{name}.log').read_text()}", flush=True)
        return code, time.monotonic() - started

    def stop(self) -> None:
        self.stopped = True
        for child in list(self.children):
            end(child)


def end(child: subprocess.Popen[str]) -> None:
    """End a suite's process group; it is given the time to take away what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(MERCY)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def main(words: list[str]) -> int:
    names = [name for word in words for name in GROUPS.get(word, [word])]
    unknown = [name for name in names if name not in SUITES]
    if unknown or not names:
        print(f"unknown suite {unknown}; suites: {', '.join(SUITES)}; groups: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    runner = Runner()
    beside = [name for name in names if name in BESIDE and set(names) - BESIDE - ALONE]
    aside = threading.Thread(target=runner.lane, args=(beside,), kwargs={"beside": True})
    try:
        aside.start()
        runner.lane([name for name in names if name not in beside and name not in ALONE], beside=False)
        aside.join()
        runner.lane([name for name in names if name in ALONE], beside=False)
    except BaseException:
        runner.stop()
        aside.join()
        raise
    results = sorted(runner.results, key=lambda result: names.index(result[0]))
    print(f"\n{'suite':<14}{'result':<10}{'minutes':>8}")
    for name, code, seconds in results:
        print(f"{name:<14}{'passed' if code == 0 else f'failed {code}':<10}{seconds / 60:>8.1f}")
    print(f"{'all':<24}{(time.monotonic() - started) / 60:>8.1f}")
    failed = [name for name, code, _seconds in results if code]
    for name in failed:
        # Its output is far above, or in a machine that is gone: where only the end is kept, the end must say why.
        print(f"\n{name} failed; the end of .build/suites/{name}.log:")
        print("".join((LOGS / f"{name}.log").read_text().splitlines(keepends=True)[-TAIL:]), end="")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
