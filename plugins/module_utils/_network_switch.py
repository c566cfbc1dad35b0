# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes this machine's systemd-networkd configuration in one step, and takes it back unless somebody confirms.

    network_switch.py apply      arm the roll-back, then write the files of wish.json and have networkd take them over
    network_switch.py confirm    the controller has reached the machine again: keep the new configuration
    network_switch.py rollback   nobody confirmed in time (timer), or the machine was restarted meanwhile (at boot)

A program: the module `hostos_network` puts it, with its state, into one folder on the HostOS, because it has to work
when nobody can reach the machine. It imports nothing but the standard library. A change is in one of these states
(state.json): armed, acted, confirmed, rolled_back. The roll-back is armed, on disk, before the first file is written,
so neither a lost connection nor a power failure leaves an unconfirmed configuration behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t

HOME = pathlib.Path(__file__).resolve().parent
STATE = HOME / "state.json"
WISH = HOME / "wish.json"
UNIT = "oscarv-network-rollback"
UNIT_DIR = pathlib.Path("/etc/systemd/system")
AT_BOOT = UNIT_DIR / "systemd-networkd.service.wants" / f"{UNIT}.service"
#: Seconds that networkd gets to bring a bridge up before confirm calls it failed.
SETTLE = 15
#: Seconds before the change: by then the answer to `apply` is out of its way.
PAUSE = 2
#: Exit code of `confirm` where the change is still to come: a connection from before it proves nothing.
TOO_EARLY = 75
PENDING = ("armed", "acted")


def run(*command: str, check: bool = True) -> str:
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def write(path: pathlib.Path, text: str | None) -> None:
    """Replace a file durably; None removes it."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.chmod(0o644)  # networkd reads as its own user
    partial.replace(path)


def read(path: pathlib.Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def load_state() -> dict[str, t.Any]:
    return json.loads(read(STATE) or '{"state": "none"}')


def links() -> dict[str, dict[str, t.Any]]:
    return {link["ifname"]: link for link in json.loads(run("ip", "-j", "-d", "addr", "show"))}


@contextlib.contextmanager
def locked() -> t.Iterator[None]:
    """Confirmation and timer never act at the same time."""
    with (HOME / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def arm(seconds: int) -> None:
    # At boot this runs before networkd, so that an unconfirmed configuration is gone before it is ever read.
    service = (
        "[Unit]\nDescription=Take back a network configuration that nobody confirmed\n"
        "DefaultDependencies=no\nRequiresMountsFor=/var/lib\nBefore=systemd-networkd.service\n\n"
        f"[Service]\nType=oneshot\nExecStart=/usr/bin/python3 {HOME / 'network_switch.py'} rollback\n"
    )
    write(UNIT_DIR / f"{UNIT}.service", service)
    AT_BOOT.parent.mkdir(exist_ok=True)
    if not AT_BOOT.is_symlink():
        AT_BOOT.symlink_to(UNIT_DIR / f"{UNIT}.service")
    run("systemctl", "daemon-reload")
    run("systemd-run", "--collect", f"--unit={UNIT}-timer", f"--on-active={seconds}", "--timer-property=AccuracySec=1s",
        "systemctl", "start", "--no-block", f"{UNIT}.service")  # fmt: skip


def disarm() -> None:
    AT_BOOT.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: others want something of networkd too
        AT_BOOT.parent.rmdir()
    (UNIT_DIR / f"{UNIT}.service").unlink(missing_ok=True)
    run("systemctl", "stop", f"{UNIT}-timer.timer", check=False)  # gone already when it was the timer that called us
    run("systemctl", "daemon-reload")


def apply() -> None:
    """Arm the roll-back, then act on its own: the act must survive the end of the connection that asked for it."""
    wish = json.loads(WISH.read_text())
    with locked():
        if load_state()["state"] in PENDING and AT_BOOT.is_symlink():  # without it nothing was changed yet
            raise SystemExit(
                "another change of this machine's network waits for its confirmation or its roll-back;"
                f" to take it back now: systemctl start {UNIT}"
            )
        state = {
            "state": "armed",
            "before": {path: read(pathlib.Path(path)) for path in wish["files"]},
            "links_before": sorted(links()),
            "networkd": {"active": networkd("is-active"), "enabled": networkd("is-enabled")},
            "expect": wish["expect"],
        }
        write(STATE, json.dumps(state))
        arm(int(wish["rollback_seconds"]))
    run("systemd-run", "--collect", "--unit=oscarv-network-act", sys.executable, __file__, "act")


def act() -> None:
    time.sleep(PAUSE)
    wish = json.loads(WISH.read_text())
    with locked():
        state = load_state()
        if state["state"] != "armed":
            return
        for path, text in wish["files"].items():
            write(pathlib.Path(path), text)
        for bridge in wish.get("removed", []):
            run("ip", "link", "del", bridge, check=False)  # networkd keeps a device whose file is gone
        if not state["networkd"]["enabled"]:
            run("systemctl", "enable", "systemd-networkd")
        if state["networkd"]["active"]:
            reload(wish["expect"].keys() if wish.get("removed") else ())
        else:
            run("systemctl", "start", "systemd-networkd")
        write(STATE, json.dumps({**state, "state": "acted"}))


def reload(stranded: t.Iterable[str]) -> None:
    """Have networkd read its files again. A link whose bridge has just gone is `failed` to it, and a reload alone
    leaves such a link as it is (seen with 252)."""
    run("networkctl", "reload")
    for name in sorted(stranded):
        run("networkctl", "reconfigure", name)


def networkd(question: str) -> bool:
    return subprocess.run(["systemctl", "-q", question, "systemd-networkd"], check=False).returncode == 0


def rollback() -> None:
    with locked():
        state = load_state()
        # Every step can be done again, and the boot does it again where this is interrupted before the state says so.
        if state["state"] in PENDING:
            for path, text in state["before"].items():
                write(pathlib.Path(path), text)
            take_back(state)
            write(STATE, json.dumps({**state, "state": "rolled_back"}))
        disarm()


def take_back(state: dict[str, t.Any]) -> None:
    """Undo in the kernel what the files no longer say. At boot networkd does not run yet: nothing is to be undone."""
    ports = {wanted["port"] for wanted in state["expect"].values() if wanted["port"]}
    now = links()
    for name in sorted((state["expect"].keys() | ports) - set(state["links_before"])):
        if name in now:
            run("ip", "link", "del", name, check=False)  # a VLAN device goes with its parent
    if networkd("is-active"):
        reload((state["expect"].keys() | ports) & set(state["links_before"]))
        if not state["networkd"]["active"]:
            run("systemctl", "stop", "systemd-networkd.service", "systemd-networkd.socket")
    if not state["networkd"]["enabled"]:
        run("systemctl", "disable", "systemd-networkd")


def shortcomings(expect: dict[str, dict[str, t.Any]]) -> list[str]:
    now = links()
    found = []
    for name, wanted in expect.items():
        link = now.get(name)
        if link is None or "UP" not in link["flags"]:
            found.append(f"{name} is not up")
        elif wanted["port"] and now.get(wanted["port"], {}).get("master") != name:
            found.append(f"{wanted['port']} is not a port of {name}")
        elif wanted["addressed"] and not any(a.get("scope") == "global" for a in link["addr_info"]):
            found.append(f"{name} has no address")
    return found


def wait_for(expect: dict[str, dict[str, t.Any]]) -> list[str]:
    """What is still missing when everything is up, or after SETTLE seconds."""
    deadline = time.monotonic() + SETTLE
    while (missing := shortcomings(expect)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return missing


def confirm() -> None:
    """Keep the change, if it was made and everything is up; else SystemExit says what became of it."""
    before = load_state()
    if before["state"] == "armed":
        raise SystemExit(TOO_EARLY)
    missing = wait_for(before["expect"]) if before["state"] == "acted" else []
    with locked():
        state = load_state()
        if state["state"] == "rolled_back":
            raise SystemExit(
                "the machine could not be reached with its new network configuration (or was restarted before that was"
                f" known), so it went back to the old one. What networkd said: journalctl -u systemd-networkd;"
                f" what was tried: {WISH}"
            )
        if state["state"] == "acted" and not missing:
            write(STATE, json.dumps({"state": "confirmed"}))
            disarm()
            return
    if missing:
        rollback()
        raise SystemExit(
            f"taken back, because {SETTLE} s after the change {'; '.join(missing)}. See journalctl -u systemd-networkd"
        )


if __name__ == "__main__":
    {"apply": apply, "act": act, "rollback": rollback, "confirm": confirm}[sys.argv[1]]()
