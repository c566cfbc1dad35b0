# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cold moves of OpenVZ containers to HostOSes with libvirt's LXC driver: same name, uuid, MACs, addresses and files.

vzmigrate knows nothing but OpenVZ, so its way is walked here: over ssh, with the key of role hostos_openvz.

1. look at both sides; nothing has been changed
2. tombstone `moving` here; the container is stopped, and does not start with its HostOS any more
3. there: a receipt of what comes, then a file with an ext4 file system of the disk's size, and into it the container's
   files as tar reads them here from its mounted root
4. there: its domain, with the new epoch; prove that it is what was sent
5. here: the tombstone becomes `moved`, and the container is destroyed; there the receipt goes
6. it starts there if it ran here

What a crash leaves, oscarv.virt.settle finds: the target's own driver knows receipts, marks and files like these.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import time
import typing as t
import uuid
import xml.etree.ElementTree as ET

from . import _lxc_xml
from . import _vz_argv as argv
from ._driver import DriverError, Mark, MoveRequest, MoveResult, Seen
from ._kvm_mark import mark_of_spec, read_mark
from ._kvm_move_files import Receipt, receipt_name
from ._lxc import URI
from ._paths import CONTAINER_DISK, disk_path
from ._tombstone import MOVED, MOVING, Tombstone
from ._vz_conf import number_of, read_conf
from ._vz_ids import ctid_of
from ._vz_jobs import RECEIVER
from ._vz_move import Far, NotMoved, Refused, Unsettled, nothing_changed, put_back, uncertain
from ._vz_status import read_status

if t.TYPE_CHECKING:
    from ._openvz import OpenVzDriver

_VIRSH = ["virsh", "-q", "-c", URI]
SECTOR = 512

#: What is missing there, a line each. Arguments: folder of the pool, file of the disk, bytes, bridges.
_CHECK = """
for tool in mke2fs e2fsck tar unshare; do
  command -v "$tool" >/dev/null || echo "program $tool is missing there"
done
[ -e "$2" ] && echo "$2 is there already"
free=$(df -B1 --output=avail "$1" | tail -n 1)
[ "${free:-0}" -ge "$3" ] || echo "its files need $3 bytes, and $1 has ${free:-0} left there"
shift 3
for bridge; do [ -e "/sys/class/net/$bridge/bridge" ] || echo "bridge $bridge is missing there"; done
"""

#: Arguments: file of the disk, bytes, uuid of its file system or nothing, file and text of the receipt. stdin: tar.
#: The mount is in a namespace of its own, which ends with the program, however that ends.
_RECEIVE = """
set -euo pipefail
umask 077
folder=$(dirname "$1")
[ -d "$folder" ] || install -d -m 0711 "$folder"
printf %s "$5" > "$4"
sync "$4" "$folder"
(set -o noclobber; : > "$1") || { rm "$4"; exit 3; }
truncate -s "$2" "$1"
mke2fs -q -F -t ext4 -m 0 ${3:+-U "$3"} "$1"
place=$(mktemp -d)
trap 'rmdir "$place"' EXIT
unshare --mount --propagation private bash -euo pipefail -c '
  mount -t ext4 -o loop "$1" "$2"
  tar --numeric-owner --xattrs --xattrs-include="*" --same-permissions -xf - -C "$2"
  umount "$2"' fill "$1" "$place"
e2fsck -f -n "$1" >/dev/null
sync "$1" "$folder"
"""

#: Without its receipt the file is none of this move.
_UNDO = '[ ! -e "$2" ] || rm -f "$1" "$2"'


@dataclasses.dataclass(frozen=True)
class Landing:
    """Where it comes down."""

    path: str  #: of its disk's file
    size: int  #: bytes

    def receipt(self, request: MoveRequest) -> str:
        return str(pathlib.PurePosixPath(self.path).parent / receipt_name(request.spec.name))


def look(driver: OpenVzDriver, request: MoveRequest, far: Far, seen: Seen) -> Landing:
    """Where it would go; Refused with what speaks against it. Changes nothing. `seen`: the container here, ours."""
    spec = request.spec
    conf = _conf(driver, seen)
    if number_of(conf, "LOCAL_UID") or number_of(conf, "LOCAL_GID"):
        raise Refused("its users are shifted (LOCAL_UID in its configuration): lxc would take them for others")
    listed = far.run([*_VIRSH, "list", "--all", "--uuid", "--name"])
    if listed.code != 0:
        raise Refused(
            f"{far.host} does not answer over ssh, or has no libvirt for containers ({listed.said.strip()[-200:]}): say"
            " hostos_openvz_moves_to_lxc: true and run oscarv.virt.hostos for both"
        )
    rows = [line.split(None, 1) for line in listed.stdout.splitlines() if line.strip()]
    if any(row[0] == spec.uuid for row in rows):
        raise Refused(f"{far.host} has a domain of its uuid: run oscarv.virt.settle")
    if any(row[-1] == spec.name for row in rows):
        raise Refused(f"{far.host} has another domain called {spec.name}")
    folder = _pool(far, spec.root.pool)
    size = -(-spec.root.size // SECTOR) * SECTOR
    landing = Landing(disk_path(folder, spec.cluster, spec.name, "root", CONTAINER_DISK), size)
    used = _used(driver, seen)
    if used > size:
        raise Refused(f"disks.root.size: found {spec.root.size}; its files here have {used} bytes")
    checked = far.run(
        ["bash", "-c", _CHECK, "check", folder, landing.path, str(used), *(nic.bridge for nic in spec.nics)]
    )
    if checked.code != 0 or checked.stdout.strip():
        raise Refused(f"{far.host}: " + ("; ".join(checked.stdout.splitlines()) or checked.said.strip()[-200:]))
    return landing


def _conf(driver: OpenVzDriver, seen: Seen) -> dict[str, str]:
    ctid = str(seen.native.ctid)
    text = (driver.options.conf_dir / f"{ctid}.conf").read_text(encoding="utf-8", errors="surrogateescape")
    return read_conf(text, ctid)


def _pool(far: Far, name: str) -> str:
    """The directory of a pool there."""
    output = far.run([*_VIRSH, "pool-dumpxml", name])
    path = ET.fromstring(output.stdout).findtext("target/path") if output.code == 0 else None
    if not path:
        raise Refused(f"{far.host} has no pool {name!r} ({output.said.strip()[-200:]}): run oscarv.virt.hostos")
    return path


def _used(driver: OpenVzDriver, seen: Seen) -> int:
    """Bytes that its files have here."""
    private = str(driver.options.path(seen.native.private))
    output = driver.tools.run(["du", "-s", "-x", "--block-size=1", private], seen.name)
    return int(output.stdout.split()[0])


def move(driver: OpenVzDriver, request: MoveRequest, far: Far, seen: Seen) -> MoveResult:
    """Driver.move. Raises Refused, NotMoved or Unsettled."""
    begin = time.monotonic()
    with nothing_changed():
        landing = look(driver, request, far, seen)
    flight = _Flight(driver, request, far, seen, landing)
    message = flight.run()
    size = {"name": "root", "pool": request.spec.root.pool, "path": landing.path, "copied": True, "bytes": flight.used}
    return MoveResult(
        guest=request.spec.name,
        moved=True,
        state="running" if flight.runs else "stopped",
        gone_from_source=flight.gone,
        seconds=round(time.monotonic() - begin, 3),
        message=message,
        mode="cold",
        disks=(size,),
        removed=() if driver.options.path(seen.native.private).exists() else (str(seen.native.private),),
    )


class _Flight:
    """One move, after everything that speaks against it was looked for."""

    def __init__(self, driver: OpenVzDriver, request: MoveRequest, far: Far, seen: Seen, landing: Landing) -> None:
        self.driver, self.request, self.far, self.seen, self.landing = driver, request, far, seen, landing
        self.spec = request.spec
        self.ctid = ctid_of(self.spec.uuid, driver.tools.dialect)
        self.ran = seen.state == "running"
        self.runs = False  #: on the target, after its start there
        self.gone = False  #: from here, as seen at the end
        self.older = driver.tombstones.get(self.spec.uuid)
        self.before = t.cast(Mark, seen.mark)
        self.used = 0
        fresh = mark_of_spec(self.spec, build_id=self.before.build_id, host_key=self.before.host_key)
        self.mark = dataclasses.replace(fresh, image=self.before.image)

    def run(self) -> str:
        """What went wrong after the proof; empty if nothing did."""
        with uncertain(self.far.host):
            self._stone(MOVING)
        try:
            if self.ran:
                self._here(argv.stop(self.ctid))
            self._here(["vzctl", "set", self.ctid, "--onboot", "no", "--save"])
            self._send()
            self._define()
        except (DriverError, OSError) as error:
            self._take_back(error)
        with uncertain(self.far.host):
            self._prove()
        problems = []
        for step in (
            functools.partial(self._stone, MOVED),
            self._destroy,
            self._accept,
            self._start if self.ran else None,
        ):
            try:
                if step is not None:
                    step()
            except (DriverError, OSError) as error:
                problems.append(str(error))
        self._see_whether_gone(problems)
        return f"is on {self.far.host} now, but: {'; '.join(problems)}" if problems else ""

    def _stone(self, state: str) -> None:
        target, move = self.request.target, self.request.move
        stone = Tombstone(self.spec.uuid, self.before.epoch, state, self.spec.name, target, move)
        self.driver.tombstones.write(stone)

    def _here(self, words: t.Sequence[str]) -> str:
        return self.driver.tools.run(words, self.spec.name).stdout

    def _send(self) -> None:
        """From the mounted root: with layout ploop the files are nowhere else."""
        request, landing = self.request, self.landing
        receipt = Receipt(
            uuid=self.spec.uuid,
            guest=self.spec.name,
            move=request.move,
            epoch=self.spec.epoch,
            source="",
            files=(landing.path,),
        )
        build = self.before.build_id
        system = str(uuid.UUID(build[:32])) if build else ""
        there = ["bash", "-c", _RECEIVE, RECEIVER, landing.path, str(landing.size), system]
        there += [landing.receipt(request), receipt.to_bytes().decode()]
        self._here(["vzctl", "mount", self.ctid])
        try:
            root = str(self.driver.options.mount_point(self.ctid))
            self.used = _used(self.driver, self.seen)
            here = ["tar", "--numeric-owner", "--xattrs", "--sparse", "--one-file-system", "-C", root, "-cf", "-", "."]
            self.far.send(here, there, request.timeout or 7200.0)
        except (DriverError, OSError):
            with contextlib.suppress(DriverError, OSError):  # the first error is the one to tell
                self._here(argv.umount(self.ctid))
            raise
        self._here(argv.umount(self.ctid))

    def _define(self) -> None:
        domain = _lxc_xml.domain(self.spec, disks={"root": self.landing.path}, mark=self.mark)
        words = f'printf %s "$1" | {" ".join(_VIRSH)} define /dev/stdin'
        self.far.good(["sh", "-c", words, "define", ET.tostring(domain, encoding="unicode")])

    def _prove(self) -> None:
        """Unsettled unless the domain there is the one that was sent, and the container here is off."""
        here = self._state()
        output = self.far.run([*_VIRSH, "dumpxml", "--inactive", self.spec.uuid])
        try:
            mark = read_mark(ET.fromstring(output.stdout)) if output.code == 0 else None
        except ET.ParseError:
            mark = None
        if mark != self.mark or here not in ("stopped", "mounted"):
            found = "not as it was sent" if output.code == 0 else f"not seen ({output.said.strip()[-200:]})"
            raise Unsettled(f"here it is {here}, on {self.far.host} {found}: run oscarv.virt.settle")

    def _state(self) -> str:
        return read_status(self._here(argv.status(self.ctid))).state

    def _destroy(self) -> None:
        """A mounted one cannot be destroyed."""
        if self._state() == "mounted":
            self._here(argv.umount(self.ctid))
        self._here(argv.destroy(self.ctid))

    def _see_whether_gone(self, problems: list[str]) -> None:
        try:
            state = self._state()
        except (DriverError, OSError) as error:
            problems.append(f"whether container {self.ctid} is still here is not known: {error}")
            return
        self.gone = state == "absent"
        if not self.gone:
            problems.append(
                f"its old copy, container {self.ctid}, is still here ({state}) and kept off by its tombstone: when the"
                f" reason is gone, `vzctl destroy {self.ctid}`"
            )

    def _accept(self) -> None:
        """Everything was made durable there before the domain was defined."""
        self.far.good(["rm", "-f", self.landing.receipt(self.request)])
        if self.spec.starts_with_host:
            self.far.good([*_VIRSH, "autostart", self.spec.uuid])

    def _start(self) -> None:
        self.far.good([*_VIRSH, "start", self.spec.uuid])
        state = self.far.run([*_VIRSH, "domstate", self.spec.uuid]).stdout.strip()
        if state != "running":
            raise DriverError(f"it is {state or 'not seen'} after its start there")
        self.runs = True

    def _take_back(self, error: Exception) -> t.NoReturn:
        """As it was, where it is certain that the target has no domain of it."""
        far, landing = self.far, self.landing
        try:
            listed = far.run([*_VIRSH, "list", "--all", "--uuid"])
            unclear = listed.said.strip()[-200:] if listed.code else ""
            there = listed.code != 0 or self.spec.uuid in listed.stdout.split()
        except (DriverError, OSError) as late:
            unclear, there = str(late), True
        if there:
            why = f" ({unclear})" if unclear else ""
            raise Unsettled(
                f"{error}; whether {far.host} has it is not certain{why}: nothing was started. Run oscarv.virt.settle"
            ) from error
        try:
            left = far.run(["bash", "-c", _UNDO, "undo", landing.path, landing.receipt(self.request)]).code != 0
        except (DriverError, OSError):
            left = True
        words = f"; files stay there below {landing.path}" if left else ""
        words += put_back(self.driver, self.request, self.seen, self.older, error)
        raise NotMoved(f"not moved to {far.host}, it stays here ({self.seen.state}): {error}{words}") from error
