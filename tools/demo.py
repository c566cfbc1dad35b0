# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job, for real, on this machine: `make demo`. One line a step, with the time it took.

Two HostOSes come up, become KVM hosts, an image is built, three guests are deployed, reached, moved while they run,
and everything is taken away again. What Ansible prints goes to .build/demo/*.log; `make demo VERBOSE=1` shows it.
`make demo KEEP=1` stops before the teardown.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t

TOP = pathlib.Path(__file__).resolve().parents[1]
INVENTORY = TOP / "inventories" / "demo"
LOGS = TOP / ".build" / "demo"
BEFORE = LOGS / "before.json"
LAB = pathlib.Path("/var/lib/oscarv-lab/labs/demo")
KEY = LAB / "ssh" / "id_ed25519"
GATEWAY = "10.88.0.1"  #: this machine on the lab's bridge; the same as lab_subnet's first address
COUNTER_PORT = 9909
ADVICE = "Run `make demo` again to go on, or `make demo-down` to take everything away."
KEEP, VERBOSE = bool(os.environ.get("KEEP")), bool(os.environ.get("VERBOSE"))


class DemoError(Exception):
    """A step did not do what it should; the message says what was seen."""


class Counter:
    """Receives what the counter in a guest sends: "BOOT_ID PID NUMBER", one datagram a tick."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str, int]] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((GATEWAY, COUNTER_PORT))
        self.socket.settimeout(0.5)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                boot, pid, number = self.socket.recv(200).decode().split()
            except TimeoutError:
                continue
            self.seen.append((time.monotonic(), boot, pid, int(number)))

    def wait(self, ticks: int, seconds: float = 20) -> None:
        """Until so many more ticks have come."""
        want, end = len(self.seen) + ticks, time.monotonic() + seconds
        while len(self.seen) < want:
            if time.monotonic() > end:
                raise DemoError(
                    f"the counter sent {len(self.seen)} ticks; {ticks} more were expected in {seconds:.0f} s"
                )
            time.sleep(0.05)

    def close(self) -> str:
        """Check that one process of one boot counted without a gap; say what was received."""
        self.stop.set()
        self.thread.join()
        self.socket.close()
        processes = collections.Counter((boot, pid) for _at, boot, pid, _n in self.seen)
        if len(processes) != 1:
            raise DemoError(f"ticks came from {len(processes)} processes: {dict(processes)}")
        numbers = [n for _at, _boot, _pid, n in self.seen]
        missing = [n for n in range(numbers[0], numbers[-1] + 1) if n not in set(numbers)]
        if missing or numbers != sorted(numbers):
            raise DemoError(f"of {len(numbers)} ticks these never came or came out of order: {missing[:10]}")
        times = [at for at, *_rest in self.seen]
        gap = max(later - earlier for earlier, later in zip(times, times[1:], strict=False))
        ((boot, pid),) = processes
        counted = f"boot {boot[:8]} process {pid} counted {numbers[0]} to {numbers[-1]} without a gap"
        return f"{counted}; longest silence {gap * 1000:.0f} ms"


def run(name: str, *command: str | pathlib.Path, cwd: pathlib.Path = TOP) -> str:
    """Run a command with its output in LOGS/name.log; an interrupt or an error stops it and tells where to look."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    with log.open("a") as sink:
        sink.write(f"$ {' '.join(map(str, command))}\n")
        sink.flush()
        start = log.stat().st_size
        child = subprocess.Popen(
            command, cwd=cwd, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        follow = subprocess.Popen(["tail", "-f", "-n", "+1", f"--pid={child.pid}", str(log)]) if VERBOSE else None
        try:
            code = child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise
        finally:
            if follow:
                follow.wait()
    text = log.read_text()[start:]
    if code:
        tail = "\n".join(text.splitlines()[-40:])
        raise DemoError(f"{command[0]} ended with {code}; the end of {log}:\n{tail}")
    return text


def playbook(name: str, *arguments: str) -> str:
    return run(name, "ansible-playbook", f"oscarv.virt.{name}", "-i", str(INVENTORY), *arguments)


def guests() -> dict[str, dict[str, t.Any]]:
    """The guests' variables as the inventory plugin shows them."""
    listing = json.loads(
        subprocess.run(
            ["ansible-inventory", "-i", str(INVENTORY), "--list"], check=True, capture_output=True, text=True
        ).stdout
    )
    return {name: vars_ for name, vars_ in listing["_meta"]["hostvars"].items() if "oscarv_uuid" in vars_}


def ssh(guest: str, address: str, command: str) -> str:
    """What a person would type; the host key is the one in the ledger, or there is no connection."""
    options = {
        "UserKnownHostsFile": INVENTORY / ".oscarv" / "known_hosts",
        "HostKeyAlias": guest,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": 20,
        "IdentityFile": KEY,
    }
    line = ["ssh", *(f"-o{key}={value}" for key, value in options.items()), f"root@{address}", command]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise DemoError(f"ssh {guest} ({address}) {command!r}: {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def on_host(host: str, command: str) -> str:
    done = subprocess.run(
        ["ansible", host, "-i", str(INVENTORY), "-o", "-m", "ansible.builtin.shell", "-a", command],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DemoError(f"{host}: {command}: {done.stdout}{done.stderr}")
    return done.stdout


# The steps ------------------------------------------------------------------------------------------------------


def lab() -> str:
    if not lab_is_ours():
        start_anew()
    run("lab", "ansible-playbook", "oscarv.virt.lab", "-e", f"lab_inventory_dir={INVENTORY}")
    return "node01, node02"


def hostos() -> str:
    playbook("hostos")
    return "KVM HostOSes with TLS"


def image() -> str:
    text = playbook("image")
    found = re.search(r"debian-worker: ([0-9a-f]{64})", text)
    if not found:
        raise DemoError("the image playbook recorded no build of debian-worker")
    return f"build {found.group(1)[:12]}"


def show_plan() -> str:
    text = playbook("plan")
    table(text)
    return ""


def deploy() -> str:
    playbook("deploy")
    return ", ".join(f"{name} on {vars_['oscarv_host']}" for name, vars_ in sorted(guests().items()))


def reach() -> str:
    said = [f"{name} {ssh(name, vars_['ansible_host'], 'hostname')}" for name, vars_ in sorted(guests().items())]
    return f"{len(said)} guests, host keys verified"


def migrate() -> str:
    name, vars_ = sorted(guests().items())[0]
    source = vars_["oscarv_host"]
    target = "node02" if source == "node01" else "node01"
    address = vars_["ansible_host"]
    ssh(
        name,
        address,
        f"printf 'TARGET={GATEWAY}:{COUNTER_PORT}\\nINTERVAL=0.05\\n' >/etc/default/oscarv-counter"
        " && systemctl restart oscarv-counter",
    )
    counter = Counter()
    counter.wait(20)
    boot = ssh(name, address, "cat /proc/sys/kernel/random/boot_id")
    playbook("migrate", "-e", f"oscarv_select={name}", "-e", f"oscarv_to={target}")
    counter.wait(40)
    proof = counter.close()
    if ssh(name, address, "cat /proc/sys/kernel/random/boot_id") != boot:
        raise DemoError(f"{name} has another boot id than before the move")
    ssh(name, address, "systemctl stop oscarv-counter")
    uuid = vars_["oscarv_uuid"]
    count = on_host(
        source,
        # The name of a process is not enough: grep's own command line has the uuid too.
        "for exe in /proc/[0-9]*/exe; do readlink $exe | grep -q qemu-system && tr '\\0' ' ' <${exe%exe}cmdline; done"
        f" | grep -c {uuid} || test $? = 1",
    )
    if not count.strip().endswith("0"):
        raise DemoError(f"{source} still has a QEMU of {name}: {count}")
    return f"{name} {source} -> {target}; {proof}; no QEMU of it left on {source}"


def evacuate() -> str:
    text = playbook("evacuate", "-e", "oscarv_hosts=node01")
    left = [name for name, vars_ in guests().items() if vars_["oscarv_host"] == "node01"]
    if left:
        raise DemoError(f"still on node01 after evacuate: {left}\n{text[-2000:]}")
    return "node01 is empty"


def deploy_again() -> str:
    recap = playbook("deploy").split("PLAY RECAP")[-1]
    changed = [line for line in recap.splitlines() if re.search(r"changed=[1-9]", line)]
    if changed or "changed=0" not in recap:
        raise DemoError("a second deploy changed something:\n" + "\n".join(changed or [recap]))
    return "changed=0 everywhere"


def status() -> str:
    table(playbook("status"))
    return ""


def teardown() -> str:
    playbook("teardown", "-e", "oscarv_confirm=demo", "-e", "oscarv_remove_disks=true")
    take_lab_away()
    return "guests, HostOSes and lab removed"


def lab_is_ours() -> bool:
    """Did this clone bring up the lab that is there?"""
    record = LAB / "lab.json"
    return record.exists() and json.loads(record.read_text()).get("inventory") == str(INVENTORY / "hosts.yml")


def start_anew() -> None:
    """Forget what an earlier demo knew, and remove the lab that another clone's demo left: its keys are not here."""
    if LAB.exists():
        print("    the lab of another clone's unfinished demo is here: taking it away first", flush=True)
        take_lab_away()
        subprocess.run([sys.executable, TOP / "tools" / "footprint.py", "take", BEFORE], check=True)
    shutil.rmtree(INVENTORY / ".oscarv", ignore_errors=True)


def take_lab_away() -> None:
    unserve = ("include_role", "-a", "name=oscarv.virt.image tasks_from=unserve")
    run("image", "ansible", "oscarv_builder", "-i", str(INVENTORY), "-m", *unserve)
    run("lab", "ansible-playbook", "oscarv.virt.lab", "-e", f"lab_inventory_dir={INVENTORY}", "-e", "lab_state=absent")


def table(text: str) -> None:
    """Show the lines that a playbook printed as a list of strings."""
    for block in re.findall(r'"msg": \[\n(.*?)\n\s*\]', text, re.S):
        for line in block.splitlines():
            print("    " + json.loads(line.strip().rstrip(",")))


STEPS: list[tuple[str, t.Callable[[], str]]] = [
    ("bring up the lab", lab),
    ("make KVM HostOSes", hostos),
    ("build debian-worker", image),
    ("show the plan", show_plan),
    ("deploy three guests", deploy),
    ("reach each by ssh", reach),
    ("migrate one, running", migrate),
    ("evacuate node01", evacuate),
    ("deploy again", deploy_again),
    ("status", status),
]


def step(number: int, total: int, name: str, action: t.Callable[[], str]) -> None:
    started = time.monotonic()
    print(f"[{number:2}/{total}] {name} ...", flush=True)
    said = action()
    print(f"[{number:2}/{total}] {name}: {time.monotonic() - started:.1f} s{'; ' + said if said else ''}", flush=True)


def main() -> int:
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    total = len(STEPS) + (0 if KEEP else 2)
    try:
        for number, (name, action) in enumerate(STEPS, 1):
            step(number, total, name, action)
        if KEEP:
            name, vars_ = sorted(guests().items())[0]
            known = INVENTORY / ".oscarv" / "known_hosts"
            login = f"-o UserKnownHostsFile={known} -o HostKeyAlias={name} root@{vars_['ansible_host']}"
            print(f"\nKept. Log in to {name}: ssh -i {KEY} {login}")
            print("Take it away: make demo-down")
            return 0
        step(total - 1, total, "tear everything down", teardown)
        print(f"[{total}/{total}] compare this machine with what it was before:")
        code = compare()
    except DemoError as error:
        print(f"\nFAILED: {error}\n{ADVICE}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nInterrupted. {ADVICE}", file=sys.stderr)
        return 130
    print(f"make demo: {'done' if not code else 'FAILED'} in {time.monotonic() - started:.0f} s")
    return code


def compare() -> int:
    code = subprocess.run(
        [
            sys.executable,
            TOP / "tools" / "footprint.py",
            "compare",
            BEFORE,
            "--allow",
            TOP / "tools" / "footprint-demo.allow",
        ],
        check=False,
    ).returncode
    BEFORE.unlink()
    return code


def down() -> int:
    """Take away what an interrupted or kept demo left; a lab that is broken goes without its guests' consent."""
    if (INVENTORY / "hosts.yml").exists():
        try:
            playbook("teardown", "-e", "oscarv_confirm=demo", "-e", "oscarv_remove_disks=true")
        except DemoError as error:
            print(f"The guests could not be removed one by one; they go with their HostOSes.\n{error}", file=sys.stderr)
    take_lab_away()
    return compare() if BEFORE.exists() else 0


if __name__ == "__main__":
    sys.exit(down() if sys.argv[1:] == ["down"] else main())
