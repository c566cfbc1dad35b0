# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A long piece of work that leaves no process and no mount behind, whenever and however it is killed.

The work runs as PID 1 of namespaces of its own (mount, PID, UTS). The kernel kills every process of a PID namespace
when its PID 1 ends, and takes the mounts away with the last process of a mount namespace; PID 1 itself is killed
with its parent, and the parent with the module. What is left is files, and those lie in one temporary folder.

The module also ends by itself when whoever started it is gone: a killed ansible-playbook must not go on building.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import typing as t

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWPID = 0x00020000, 0x04000000, 0x20000000  #: linux/sched.h
_PR_SET_PDEATHSIG = 1  #: linux/prctl.h
#: Seconds between two empty lines on the module's output. ssh notices a dead reader only when there is something to
#: write; Ansible drops what comes before the result.
_HEARTBEAT = 5.0


class BuildError(Exception):
    """The build cannot go on; the message says what was wrong and what to do."""


class Abandoned(Exception):
    """Whoever asked for the work is gone."""


def _libc(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, ends."""
    _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def ancestors(pid: int) -> list[int]:
    """The parent of `pid`, its parent, and so on, without PID 1."""
    found: list[int] = []
    while True:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            # The command's name stands in parentheses and may hold anything, also a parenthesis.
            pid = int(stat.read().rpartition(")")[2].split()[1])
        if pid <= 1:
            return found
        found.append(pid)


class Watch:
    """Knows when the asker is gone: a process that started us has ended, or nobody reads our output any more.

    `pids` are watched where they really are ancestors of this process (the controller is, with a local connection).
    """

    def __init__(self, pids: t.Iterable[int] = (), output: t.TextIO | None = None) -> None:
        line = ancestors(os.getpid())
        watched = set(line[:1]) | (set(pids) & set(line))
        self._output = sys.stdout if output is None else output
        self._fds = [os.pidfd_open(pid) for pid in watched]
        self._poll = select.poll()
        for fd in self._fds:
            self._poll.register(fd, select.POLLIN)
        self._poll.register(self._output.fileno(), 0)  # errors only: nobody has the other end open
        self._beat = time.monotonic()

    def wait(self, seconds: float, fd: int | None = None) -> bool:
        """Wait so long, or until `fd` can be read; True: it can. Raises Abandoned when the asker is gone."""
        if fd is not None:
            self._poll.register(fd, select.POLLIN)
        try:
            events = self._poll.poll(seconds * 1000)
        finally:
            if fd is not None:
                self._poll.unregister(fd)
        if any(ready != fd for ready, _event in events):
            raise Abandoned("ansible is gone")
        if time.monotonic() - self._beat >= _HEARTBEAT:
            self._beat = time.monotonic()
            try:
                self._output.write("\n")
                self._output.flush()
            except BrokenPipeError:
                raise Abandoned("nobody reads the result") from None
        return bool(events)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


def run(work: t.Callable[[], t.Any], watch: Watch, log: str) -> t.Any:
    """Do `work` in namespaces of its own and return what it returns (plain data).

    Everything that it prints goes to the file `log`. Raises BuildError with the message of the work's own
    BuildError or with the end of its traceback, Abandoned when `watch` says so.
    """
    module = os.getpid()
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(reader)
        _keeper(work, module, writer, log)
    os.close(writer)
    try:
        return _result(reader, watch)
    finally:
        # Whatever happened: when the keeper has been waited for, nothing of the work is alive.
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        os.close(reader)


def _result(reader: int, watch: Watch) -> t.Any:
    text = b""
    while True:
        if watch.wait(_HEARTBEAT, reader):
            piece = os.read(reader, 65536)
            if not piece:
                break
            text += piece
    if not text:
        raise BuildError("the build was killed from outside (out of memory?)")
    answer = json.loads(text)
    if "error" in answer:
        raise BuildError(answer["error"])
    return answer["result"]


def _keeper(work: t.Callable[[], t.Any], module: int, writer: int, log: str) -> t.NoReturn:
    """Between the module and PID 1: only a child of the one who asks for a PID namespace is in it."""
    try:
        die_with_parent(module)
        _libc("unshare", _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID)
        alive, ours = os.pipe()
        first = os.fork()
        if first == 0:
            os.close(ours)
            _first(work, alive, writer, log)
        os.close(writer)
        os.waitpid(first, 0)
    except OSError as error:
        _answer(writer, {"error": f"namespaces of its own cannot be had: {error}; the builder must be root"})
    finally:
        os._exit(0)


def _first(work: t.Callable[[], t.Any], alive: int, writer: int, log: str) -> t.NoReturn:
    """PID 1 of the namespaces: the work. `alive` reads as ended when the keeper is gone."""
    try:
        _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:  # the keeper ended before the line above
            os._exit(1)
        _settle(log)
        _answer(writer, {"result": work()})
    except BuildError as error:
        _answer(writer, {"error": str(error)})
    finally:
        if sys.exc_info()[1] is not None:
            _answer(writer, {"error": "the build failed unexpectedly:\n" + traceback.format_exc()})
        os._exit(0)


def _settle(log: str) -> None:
    """Make the namespaces ours: output to `log`, no mount seen outside, /proc of our own, no host name."""
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (sink, 1), (sink, 2)):
        os.dup2(source, target)
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    # Ansible's facts take the name of PID 1 for the service manager's; this one says "look elsewhere".
    with open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write("init")
    with open("/proc/sys/kernel/hostname", "w", encoding="utf-8") as name:
        name.write("localhost")


def _answer(writer: int, answer: dict[str, t.Any]) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)


def note(text: str) -> None:
    """A line for the log of the work."""
    os.write(1, f"{text}\n".encode("utf-8", "replace"))


def mount(*arguments: str) -> None:
    """mount(8); raises BuildError with what it said."""
    _quietly("mount", *arguments)


def unmount(target: os.PathLike[str]) -> None:
    _quietly("umount", os.fspath(target))


def _quietly(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(words)}`: {done.stderr.strip()}")


def end_all_others() -> None:
    """In PID 1 of the namespaces: end what a package or a role has left running."""
    if os.getpid() != 1:
        raise BuildError("only the build's own first process may do this")
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
