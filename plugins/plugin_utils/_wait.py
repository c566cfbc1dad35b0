# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until guests answer over ssh with the host key that the ledger has. All at once, with bounded work.

A guest is tried by a TCP connection first, which costs nothing, and then by a real `ssh ... true`. ssh verifies the
host key before it logs in; the key comes from the ledger by KnownHostsCommand, so no file is read or written.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import typing as t

#: Seconds that one TCP probe and the connection phase of one ssh may take.
PROBE_SECONDS = 3
SSH_SECONDS = 15
#: Seconds for which a wrong host key may still be a guest in the middle of its first boot.
KEY_PATIENCE = 30

WRONG_KEY, NO_LOGIN, SILENT = "wrong_host_key", "no_login", "no_answer"


@dataclasses.dataclass(frozen=True)
class Target:
    """One guest and how it is reached."""

    name: str
    address: str
    host_key: str  #: "ssh-ed25519 AAAA..."
    user: str = "root"
    port: int = 22
    arguments: tuple[str, ...] = ()  #: further arguments of ssh, e.g. -i KEY
    probe: bool = True  #: a plain TCP connection says something (not behind a jump host)


@dataclasses.dataclass
class Answer:
    """How the waiting for one guest ended."""

    name: str
    reached: bool = False
    seconds: float = 0.0
    attempts: int = 0
    problem: str = SILENT
    msg: str = "not tried"

    def plain(self) -> dict[str, t.Any]:
        plain = dataclasses.asdict(self)
        if self.reached:
            del plain["problem"]
        return {**plain, "seconds": round(self.seconds, 1)}


def ssh_command(target: Target, command: str = "true") -> list[str]:
    """The ssh that verifies and logs in; nothing of the user's own known_hosts has a say."""
    known = f"/bin/echo {target.name} {' '.join(target.host_key.split()[:2])}"
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(SSH_SECONDS),
        "ConnectionAttempts": "1",
        "ControlPath": "none",
        "HostKeyAlias": target.name,
        "HostKeyAlgorithms": "ssh-ed25519",
        "KnownHostsCommand": known,
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
    }
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    # The first value of an option counts for ssh, so what is verified cannot be softened by further arguments.
    return [
        "ssh",
        "-n",
        *flags,
        *target.arguments,
        "-p",
        str(target.port),
        "-l",
        target.user,
        "--",
        target.address,
        command,
    ]


def wait_for(targets: t.Sequence[Target], *, timeout: float, sleep: float, parallel: int) -> list[Answer]:
    """Wait for all of them; an answer each, in order. `timeout`, `sleep`: seconds; at most `parallel` ssh at once."""
    return asyncio.run(_wait_all(targets, timeout, sleep, parallel))


async def _wait_all(targets: t.Sequence[Target], timeout: float, sleep: float, parallel: int) -> list[Answer]:
    probes, logins = asyncio.Semaphore(parallel * 8), asyncio.Semaphore(parallel)
    end = time.monotonic() + timeout
    return list(await asyncio.gather(*(_wait_one(target, end, sleep, probes, logins) for target in targets)))


async def _wait_one(
    target: Target, end: float, sleep: float, probes: asyncio.Semaphore, logins: asyncio.Semaphore
) -> Answer:
    started = time.monotonic()
    answer = Answer(target.name)
    wrong_since: float | None = None
    while True:
        await _try(target, answer, probes, logins)
        now = time.monotonic()
        answer.seconds = now - started
        if answer.reached:
            return answer
        wrong_since = (wrong_since or now) if answer.problem == WRONG_KEY else None
        if now + sleep > end or (wrong_since is not None and now - wrong_since >= KEY_PATIENCE):
            return answer
        await asyncio.sleep(sleep)


async def _try(target: Target, answer: Answer, probes: asyncio.Semaphore, logins: asyncio.Semaphore) -> None:
    answer.attempts += 1
    if target.probe:
        async with probes:
            refused = await _probe(target)
        if refused:
            answer.problem, answer.msg = SILENT, f"{target.address} port {target.port}: {refused}"
            return
    async with logins:
        code, _out, text = await _login(target, "true")
    answer.reached = code == 0
    if answer.reached:
        answer.msg = f"answers on {target.address} with its host key"
    else:
        answer.problem, answer.msg = explain(target, code, text)


async def _probe(target: Target) -> str:
    """Why there is no TCP connection, empty if there is one."""
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(target.address, target.port), PROBE_SECONDS)
    except asyncio.TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    return ""


async def _login(target: Target, command: str) -> tuple[int, str, str]:
    """(exit code, what the command printed, what ssh said). An ssh that hangs once it is connected is killed."""
    process = await asyncio.create_subprocess_exec(
        *ssh_command(target, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 2 * SSH_SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return 255, "", "ssh hung and was killed"
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace").strip()


def run_on(targets: t.Sequence[Target], command: str, parallel: int) -> dict[str, tuple[str | None, str]]:
    """Run a command once on each: name -> (what it printed, None if it failed; why it failed)."""

    async def one(target: Target, logins: asyncio.Semaphore) -> tuple[str | None, str]:
        async with logins:
            code, out, text = await _login(target, command)
        return (out, "") if code == 0 else (None, explain(target, code, text)[1])

    async def every() -> list[tuple[str | None, str]]:
        logins = asyncio.Semaphore(parallel)
        return list(await asyncio.gather(*(one(target, logins) for target in targets)))

    return dict(zip((target.name for target in targets), asyncio.run(every()), strict=True))


def explain(target: Target, code: int, text: str) -> tuple[str, str]:
    """(problem, message) of an ssh that failed."""
    last = text.splitlines()[-1] if text else f"ssh ended with {code}"
    if (
        "Host key verification failed" in text
        or "host key is known for" in text
        or "IDENTIFICATION HAS CHANGED" in text
    ):
        return WRONG_KEY, (
            f"{target.address} shows a host key that is not the one in the ledger: another machine has the address, or"
            " the guest was made again outside oscarv.virt"
        )
    if "Permission denied" in text:
        return NO_LOGIN, (
            f"{target.address} shows the right host key but refuses to let {target.user} in: is a key of yours among"
            f" authorized_keys of its partition, and is ansible_ssh_private_key_file set? ({last})"
        )
    return SILENT, f"{target.address} port {target.port}: {last}"
