# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves of OpenVZ containers, by vzmigrate, which copies over ssh and removes the source itself.

1. look at both sides, for a live move also with vzmigrate's own dry run; nothing has been changed
2. tombstone `moving` here; the container does not start with its HostOS any more; for a cold move it is stopped
3. vzmigrate, with --live (7: --online) for a live move: it writes the memory down, copies it, and goes on there
4. prove: it is there (after a live move: running) and not here; there it gets its new epoch, and here the tombstone
   becomes `moved`
5. after a cold move it starts there if it ran here

Between the end of 3 and 4 a crash leaves a copy there with the old epoch: oscarv.virt.settle calls that a riddle, and
somebody has to say that it is the right one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import subprocess
import tempfile
import time
import typing as t

from . import _vz_argv as argv
from ._driver import DriverError, MoveRequest, MoveResult, Seen
from ._lock import hold
from ._tombstone import MOVED, MOVING, Tombstone, refusal
from ._vz_errors import VzError
from ._vz_ids import ctid_of
from ._vz_mark import describe
from ._vz_move_settle import departures_of, settle
from ._vz_new import mark_of, not_filled
from ._vz_run import LONG, Execute, Output, execute
from ._vz_status import SUSPENDED, read_status

if t.TYPE_CHECKING:
    from ._kvm_move_settle import Action
    from ._openvz import OpenVzDriver
    from ._spec import GuestSpec

#: What role hostos_openvz makes, so that HostOSes reach each other and nobody else.
SSH_DIR = "/etc/oscarv/ssh"
_SECONDS = 600.0
#: Seconds for a program to end that has no more to say.
_LAST_WORDS = 30.0


class Refused(DriverError):
    """A move that must not be begun; nothing was changed."""


class NotMoved(DriverError):
    """A move failed, and it is certain that the container is here, as it was."""


class Unsettled(DriverError):
    """It is not certain where the container is."""


def ssh_options() -> list[str]:
    """Of the role's own key, where it is; nobody is asked anything."""
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    if os.path.exists(f"{SSH_DIR}/id_ed25519"):
        options += ["-i", f"{SSH_DIR}/id_ed25519", "-o", f"UserKnownHostsFile={SSH_DIR}/known_hosts"]
        options += ["-o", "StrictHostKeyChecking=yes"]
    return options


@contextlib.contextmanager
def nothing_changed() -> t.Iterator[None]:
    """For what is only looked at: NotMoved for an error that is none of ours, because nothing was begun."""
    try:
        yield
    except (Refused, NotMoved, Unsettled):
        raise
    except (DriverError, OSError) as error:
        raise NotMoved(f"nothing was begun: {error}") from error


@contextlib.contextmanager
def uncertain(host: str) -> t.Iterator[None]:
    """For the time in which both sides may have it: every error is Unsettled."""
    try:
        yield
    except Unsettled:
        raise
    except (DriverError, OSError) as error:
        raise Unsettled(f"whether it is on {host} is not certain: {error}. Run oscarv.virt.settle") from error


class Far:
    """The tools of another HostOS, by ssh."""

    def __init__(self, host: str, address: str, run: Execute = execute) -> None:
        self.host = host
        self.address = address
        self._run = run

    def run(self, words: t.Sequence[str]) -> Output:
        return self._run(["ssh", *ssh_options(), f"root@{self.address}", shlex.join(words)], _SECONDS)

    def state(self, ctid: str) -> str:
        """Of a container there; Unsettled where the HostOS does not answer."""
        output = self.run(argv.status(ctid))
        if output.code != 0:
            raise Unsettled(f"{self.host} does not answer over ssh ({output.code}: {output.stderr.strip()[-200:]})")
        return read_status(output.stdout).state

    def send(self, here: t.Sequence[str], there: t.Sequence[str], timeout: float) -> None:
        """What `here` prints becomes the input of `there`. DriverError if either fails or both take too long."""
        words = ["ssh", *ssh_options(), f"root@{self.address}", shlex.join(there)]
        with tempfile.TemporaryFile() as log:
            with subprocess.Popen(here, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as reader:
                try:
                    done = subprocess.run(words, stdin=reader.stdout, capture_output=True, check=False, timeout=timeout)
                    if reader.stdout:  # if nobody reads it any more, `here` shall notice
                        reader.stdout.close()
                    reader.wait(_LAST_WORDS)
                except subprocess.TimeoutExpired:
                    raise DriverError(f"copying to {self.host} took longer than {timeout:g} s and was ended") from None
                finally:
                    reader.kill()
            log.seek(0)
            said = (log.read() + done.stderr).decode(errors="replace").strip()[-300:]
        if reader.returncode or done.returncode:
            raise DriverError(f"copying to {self.host} failed ({reader.returncode}, {done.returncode}): {said}")

    def good(self, words: t.Sequence[str]) -> None:
        output = self.run(words)
        if output.code != 0:
            raise DriverError(
                f"{self.host}: `{shlex.join(words)}` ended with {output.code}: {output.said.strip()[-300:]}"
            )


def run(
    params: t.Mapping[str, t.Any], requests: t.Sequence[MoveRequest], actions: t.Sequence[Action], *, check: bool
) -> dict[str, t.Any]:
    """What module guest_migrate returns, for this hypervisor."""
    from ._hypervisor import open_driver
    from ._kvm_move_report import done, result_of, summary

    driver = t.cast("OpenVzDriver", open_driver(params))
    with contextlib.ExitStack() as stack:
        if not check:
            stack.enter_context(hold(params["state_dir"], "guest_migrate", params["lock_timeout"]))
        settled = [_settled(driver, action, check) for action in actions]
        moves = []
        for request in requests:
            far = Far(request.target, request.target_address)
            try:
                if check:
                    seen = check_move(driver, request, far)
                    epoch, mode = seen.mark.epoch if seen.mark else None, mode_of(request, seen)
                    text = f"would be moved {mode} to {request.target}"
                    moves.append(result_of(request, "planned", text, changed=True, mode=mode, epoch_before=epoch))
                else:
                    moves.append(done(request, move(driver, request, far)))
            except (DriverError, OSError) as error:
                # Whatever is not proved to have left it alone is for settle to look at.
                certain = isinstance(error, (Refused, NotMoved)) or (check and not isinstance(error, Unsettled))
                refused = [str(error)] if isinstance(error, Refused) else []
                outcome = "aborted" if certain else "unknown"
                moves.append(result_of(request, outcome, str(error), failed=True, refused=refused))
    return summary(moves, settled, params["source"])


def check_move(driver: OpenVzDriver, request: MoveRequest, far: Far) -> Seen:
    """Everything that `move` would look at before it changes anything."""
    seen = look(driver, request, far)
    if request.hypervisor == "lxc":
        from . import _vz_move_lxc  # it is built on this file

        _vz_move_lxc.look(driver, request, far, seen)
    return seen


def look(driver: OpenVzDriver, request: MoveRequest, far: Far) -> Seen:
    """The container here; Refused with what speaks against its move, Unsettled if it is not here. Changes nothing."""
    spec = request.spec
    if request.move and departures_of(driver).aborted(spec.uuid) == request.move:
        raise Refused("this move was aborted by oscarv.virt.settle meanwhile: plan again")
    stale = refusal(spec.epoch, driver.tombstones.get(spec.uuid))
    if stale:
        raise Refused(stale)
    driver.observe_all()
    seen = driver.observe_one(spec.uuid)
    if seen is None or seen.mark is None or seen.mark.uuid != spec.uuid:
        # It may have moved already.
        raise Unsettled(f"no container of ours with uuid {spec.uuid} is on this HostOS: run oscarv.virt.settle")
    if seen.native.job:
        job, ctid = seen.native.job, seen.native.ctid
        raise Unsettled(f"{job} still works on container {ctid}: wait for its end, then run oscarv.virt.settle")
    if spec.epoch <= seen.mark.epoch:
        raise Refused(f"epoch {spec.epoch} is not newer than {seen.mark.epoch}, the container's: plan again")
    if request.hypervisor not in ("", driver.hypervisor, "lxc"):
        raise Refused(f"{request.target} has {request.hypervisor}: a container of openvz goes to openvz and lxc only")
    if not_filled(driver.tools.dialect, seen.mark):
        raise Refused("its making was interrupted, and its files are not those of its build: run oscarv.virt.deploy")
    if seen.native.status == "suspended":
        raise Refused("its memory lies in a dump, which vzmigrate was never seen to take along: start it first")
    if seen.state == "paused":
        raise Refused("it is paused and cannot be shut down for a cold move: resume it")
    live = mode_of(request, seen) == "live"
    if request.hypervisor == "lxc":
        _refuse_lxc(driver, live)
        return seen
    can = driver.capabilities()["live_move"]
    if live and not can.supported:
        raise Refused(f"capability live_move is missing on this HostOS: {can.reason}; `cold` works")
    try:
        there = far.state(ctid_of(spec.uuid, driver.tools.dialect))
    except DriverError as error:
        raise Refused(f"{error}: vzmigrate needs ssh from here to there; run oscarv.virt.hostos for both") from error
    if there != "absent":
        raise Refused(f"{request.target} has a container of its number ({there}): run oscarv.virt.settle")
    if live:
        try:
            driver.tools.run(_migrate(driver, request, live=True, dry_run=True), spec.name)
        except VzError as error:
            raise Refused(f"{error}; `cold` asks for less") from error
    return seen


def mode_of(request: MoveRequest, seen: Seen) -> str:
    """live | cold: what will be done, whatever was asked for."""
    return "live" if seen.state == "running" and request.mode != "cold" else "cold"


def _refuse_lxc(driver: OpenVzDriver, live: bool) -> None:
    if live:
        raise Refused("memory of a container of openvz does not go to lxc: move it cold (oscarv_mode=cold)")
    if not driver.tools.dialect.legacy:
        raise Refused(
            "how files come out of a container of vzctl 7 was never seen, and this move ends by destroying it: it goes"
            " to lxc from vzctl 4 only"
        )


def _migrate(driver: OpenVzDriver, request: MoveRequest, *, live: bool, dry_run: bool = False) -> list[str]:
    dialect, ssh = driver.tools.dialect, [" ".join(ssh_options())]
    ctid = ctid_of(request.spec.uuid, dialect)
    return argv.migrate(dialect, ctid, request.target_address, live=live, dry_run=dry_run, ssh=ssh)


def move(driver: OpenVzDriver, request: MoveRequest, far: Far) -> MoveResult:
    """Driver.move. Raises Refused, NotMoved or Unsettled."""
    begin = time.monotonic()
    with nothing_changed():
        seen = look(driver, request, far)
    if request.hypervisor == "lxc":
        from . import _vz_move_lxc  # it is built on this file

        return _vz_move_lxc.move(driver, request, far, seen)
    spec, older = request.spec, driver.tombstones.get(request.spec.uuid)
    ctid, ran = ctid_of(spec.uuid, driver.tools.dialect), seen.state == "running"
    mode = mode_of(request, seen)
    live, mark = mode == "live", seen.mark
    if mark is None:
        raise Refused("it lost its mark meanwhile")
    stone = Tombstone(spec.uuid, mark.epoch, MOVING, spec.name, request.target, request.move)
    with uncertain(far.host):
        driver.tombstones.write(stone)
    try:
        if ran and not live:
            driver.tools.run(argv.stop(ctid), spec.name)
        driver.tools.run(["vzctl", "set", ctid, "--onboot", "no", "--save"], spec.name)
        _run_vzmigrate(driver, request, live)
    except (DriverError, OSError) as error:
        _take_back(driver, request, far, seen, older, error)
    with uncertain(far.host):
        _prove(driver, far, ctid, live)
        fresh = mark_of(spec, build_id=mark.build_id, host_key=mark.host_key)
        fresh = dataclasses.replace(fresh, image=mark.image)
        onboot = "yes" if spec.starts_with_host else "no"
        words = ["vzctl", "set", ctid, "--description", describe(fresh, ctid), "--onboot", onboot, "--save"]
        try:
            far.good(words)
        except DriverError as error:
            raise Unsettled(f"it is on {far.host}, with its old epoch: {error}. Run oscarv.virt.settle") from error
    problems = []
    try:
        driver.tombstones.write(dataclasses.replace(stone, state=MOVED))
    except OSError as error:  # the one of before holds as well
        problems.append(f"its tombstone stays `moving`: {error}")
    wrong = _start_there(far, ctid) if ran and not live else ""
    problems += [wrong] if wrong else []
    return MoveResult(
        guest=spec.name,
        moved=True,
        state="running" if ran and not wrong else "stopped",
        gone_from_source=True,
        seconds=round(time.monotonic() - begin, 3),
        message=f"is on {far.host} now, but: {'; '.join(problems)}" if problems else "",
        mode=mode,
        warnings=(f"guest {spec.name}: live was asked for, but it is {seen.state}: moved cold",)
        if request.mode == "live" and not live
        else (),
    )


def _run_vzmigrate(driver: OpenVzDriver, request: MoveRequest, live: bool) -> None:
    """Legacy freezes the container for a live move, and nothing tells a frozen one from one that runs: should vzmigrate
    or this module be killed, our note has the next run resume it."""
    spec, legacy = request.spec, driver.tools.dialect.legacy
    ctid = ctid_of(spec.uuid, driver.tools.dialect)
    if live and legacy:
        seen = driver.observe_one(spec.uuid)
        driver.paused.note(ctid, seen.native.uptime if seen else None)
    try:
        driver.tools.run(_migrate(driver, request, live=live), spec.name, timeout=request.timeout or LONG)
    except VzError:  # it ended by itself, and let go what it had frozen
        driver.paused.forget(ctid)
        raise
    driver.paused.forget(ctid)


def _start_there(far: Far, ctid: str) -> str:
    """What went wrong; the move itself is done."""
    try:
        far.good(argv.start(ctid))
        state = far.state(ctid)
    except DriverError as error:
        return f"it does not start: {error}"
    return "" if state == "running" else f"it is {state} after its start"


def _state_here(driver: OpenVzDriver, ctid: str) -> str:
    return read_status(driver.tools.run(argv.status(ctid)).stdout).state


def _prove(driver: OpenVzDriver, far: Far, ctid: str, live: bool) -> None:
    """Unsettled unless it is there, as it should be, and not here."""
    here, there = _state_here(driver, ctid), far.state(ctid)
    if here != "absent" or there not in (("running",) if live else ("stopped", "mounted")):
        raise Unsettled(f"vzmigrate ended, but here it is {here} and on {far.host} {there}: oscarv.virt.settle")


def _take_back(
    driver: OpenVzDriver, request: MoveRequest, far: Far, seen: Seen, older: Tombstone | None, error: Exception
) -> t.NoReturn:
    """As it was, where it is certain that it has not left."""
    ctid = ctid_of(request.spec.uuid, driver.tools.dialect)
    try:
        here, there = _state_here(driver, ctid), far.state(ctid)
        job = driver.job(ctid, request.spec.uuid)
    except (DriverError, OSError) as late:
        raise Unsettled(
            f"{error}; whether {far.host} has it is not certain ({late}): nothing was started. Run oscarv.virt.settle"
        ) from error
    if job or here == "absent" or there != "absent":
        busy = f"{job} still works on container {ctid}; " if job else ""
        raise Unsettled(
            f"{error}; {busy}here it is {here}, on {far.host} {there}: nothing was started. Run oscarv.virt.settle"
        ) from error
    late_words = put_back(driver, request, seen, older, error)
    raise NotMoved(f"not moved to {far.host}, it stays here ({seen.state}): {error}{late_words}") from error


def put_back(driver: OpenVzDriver, request: MoveRequest, seen: Seen, older: Tombstone | None, error: Exception) -> str:
    """As it was before a move that failed with `error`; what kept it from running again, in words."""
    spec, ctid = request.spec, ctid_of(request.spec.uuid, driver.tools.dialect)
    try:
        driver.tools.run(["vzctl", "set", ctid, "--onboot", "yes" if seen.autostart else "no", "--save"], spec.name)
        if older is None:
            driver.tombstones.remove(spec.uuid)
        else:
            driver.tombstones.write(older)
    except (DriverError, OSError) as late:
        raise Unsettled(f"{error}; it is here, but not as it was: {late}. Run oscarv.virt.settle") from error
    try:
        state = _go_on(driver, spec) if seen.state == "running" else "running"
    except (DriverError, OSError) as late:
        return f"; and it could not be started again: {late}"
    return "" if state == "running" else f"; and it is {state} after its start: look into /var/log/vzctl.log"


def _go_on(driver: OpenVzDriver, spec: GuestSpec) -> str:
    """What a move stopped, froze or wrote down runs again; its state then."""
    ctid = ctid_of(spec.uuid, driver.tools.dialect)
    state = _state_here(driver, ctid)
    if state == "running":
        now = driver.observe_one(spec.uuid)
        if now is None or now.state != "paused":
            return state
        words = argv.unpause(ctid)
    else:
        words = argv.resume(ctid) if state == SUSPENDED else argv.start(ctid)
    driver.tools.run(words, spec.name, timeout=LONG)
    driver.paused.forget(ctid)
    return _state_here(driver, ctid)


def _settled(driver: OpenVzDriver, action: Action, check: bool) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"guest": action.guest, "action": action.action, "changed": False, "steps": []}
    try:
        result["steps"] = settle(driver, action, check)
        result["changed"] = bool(result["steps"])
    except (DriverError, OSError) as error:
        result.update(failed=True, msg=str(error))
    return result
