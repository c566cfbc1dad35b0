# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines for OpenVZ's tools: lists of arguments, never a shell. Nothing is run here.

Everything that a tool would misread is refused here (`text_of`), because the tools themselves take anything: 4.11
accepts the host name "bad host", and prints a description with a quote as broken JSON.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._driver import DriverError
from ._vz_dialect import Dialect
from ._vz_list import fields_of
from ._vz_netif import Veth, netif_add

_HOSTNAME = re.compile(
    r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
)
#: Quotes and backslashes break vzlist's JSON; $, ` and line ends mean something in the configuration.
_FORBIDDEN = re.compile(r"[\"'\\$`\x00-\x1f\x7f]")

SUSPEND = "suspend"  #: to disk
PAUSE = "pause"  #: in memory


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `set` is told. None: not mentioned. Sizes in bytes."""

    memory: int | None = None
    swap: int | None = None
    vcpus: int | None = None
    cpu_limit: int | None = None  #: per cent of one CPU; 0: no limit
    cpu_units: int | None = None  #: share
    disk: int | None = None
    nics_add: tuple[Veth, ...] = ()
    nics_del: tuple[str, ...] = ()
    hostname: str | None = None
    nameservers: tuple[str, ...] | None = None  #: the whole list
    searchdomains: tuple[str, ...] | None = None  #: the whole list
    name: str | None = None
    autostart: bool | None = None
    description: str | None = None
    addresses_add: tuple[str, ...] = ()  #: of venet0
    addresses_del: tuple[str, ...] = ()  #: of venet0; "all" for all


def version() -> list[str]:
    return ["vzctl", "--version"]


def status(ctid: str) -> list[str]:
    return ["vzctl", "status", ctid]


def list_all(dialect: Dialect, ctid: str | None = None) -> list[str]:
    return ["vzlist", "-a", "-j", "-o", fields_of(dialect), *([ctid] if ctid else [])]


def create(
    dialect: Dialect,
    ctid: str,
    template: str,
    *,
    name: str,
    hostname: str,
    description: str,
    layout: str | None = None,
    disk: int | None = None,
) -> list[str]:
    """Everything that must be there from the first moment: a container without its mark would be nobody's."""
    argv = ["vzctl", "create", ctid, "--ostemplate", text_of("template", template)]
    if layout and dialect.legacy:
        argv += ["--layout", layout]
    if not dialect.legacy:
        argv.append("--skip_app_templates")
    if disk is not None:
        argv += ["--diskspace", _kib(disk)]
    argv += ["--name", text_of("name", name), "--hostname", host_of(hostname)]
    return [*argv, "--description", text_of("description", description)]


def settings(dialect: Dialect, ctid: str, want: Settings, *, running: bool) -> list[str] | None:
    """`set --save`; None when there is nothing to set.

    The container must be known to exist: `set` on a missing one returns 0 and leaves a configuration without container.
    --setmode is given for a running one, because without it what cannot be applied is only warned of, with exit code 0.
    """
    options = [*_resources(want), *_network(dialect, want), *_identity(want)]
    if not options:
        return None
    return ["vzctl", "set", ctid, *options, *(["--setmode", "ignore"] if running else []), "--save"]


def _resources(want: Settings) -> t.Iterator[str]:
    numbers = {
        "--ram": want.memory,
        "--swap": want.swap,
        "--cpus": want.vcpus,
        "--cpulimit": want.cpu_limit,
        "--cpuunits": want.cpu_units,
    }
    for option, number in numbers.items():
        if number is not None:
            yield from (option, str(number))
    if want.disk is not None:
        yield from ("--diskspace", _kib(want.disk))


def _network(dialect: Dialect, want: Settings) -> t.Iterator[str]:
    for ifname in want.nics_del:
        yield from ("--netif_del", ifname)
    for nic in want.nics_add:
        yield from ("--netif_add", netif_add(nic, with_bridge=dialect.legacy))
    for address in want.addresses_del:
        yield from ("--ipdel", address)
    for address in want.addresses_add:
        yield from ("--ipadd", address)
    for server in want.nameservers or ():
        yield from ("--nameserver", text_of("nameserver", server))
    for domain in want.searchdomains or ():
        yield from ("--searchdomain", host_of(domain))


def _identity(want: Settings) -> t.Iterator[str]:
    if want.hostname is not None:
        yield from ("--hostname", host_of(want.hostname))
    if want.name is not None:
        yield from ("--name", text_of("name", want.name))
    if want.description is not None:
        yield from ("--description", text_of("description", want.description))
    if want.autostart is not None:
        yield from ("--onboot", "yes" if want.autostart else "no")


def filled(ctid: str, distribution: str, description: str, *, autostart: bool) -> list[str]:
    """vz7 only: its root has other files now than those of the EZ template that it was made of; it may start."""
    words = ["--distribution", text_of("distribution", distribution)]
    words += ["--description", text_of("description", description), "--onboot", "yes" if autostart else "no"]
    return ["vzctl", "set", ctid, *words, "--save"]


def network(ctid: str, nic: Veth) -> list[str]:
    """vz7 only, after --netif_add, which has no field for it there: put a NIC onto a network."""
    return ["vzctl", "set", ctid, "--ifname", nic.ifname, "--network", text_of("network", nic.bridge), "--save"]


def start(ctid: str) -> list[str]:
    """Without --wait: with systemd in the container it never returns."""
    return ["vzctl", "start", ctid]


def stop(ctid: str, *, fast: bool = False) -> list[str]:
    return ["vzctl", "stop", ctid, *(["--fast"] if fast else [])]


def mount(ctid: str) -> list[str]:
    return ["vzctl", "mount", ctid]


def umount(ctid: str) -> list[str]:
    return ["vzctl", "umount", ctid]


def pause(dialect: Dialect, ctid: str) -> list[str]:
    """Freeze it where it is, in memory. Not `suspend`, which takes it away and writes a dump."""
    return ["vzctl", "chkpnt", ctid, "--suspend"] if dialect.legacy else ["vzctl", "pause", ctid]


def unpause(ctid: str) -> list[str]:
    """Not `resume`, which restores a dump."""
    return ["vzctl", "chkpnt", ctid, "--resume"]


def suspend(ctid: str) -> list[str]:
    """To disk: /vz/dump/Dump.CTID."""
    return ["vzctl", "suspend", ctid]


def resume(ctid: str) -> list[str]:
    """From disk. It has returned 0 for a container that stayed down: look at `status` afterwards."""
    return ["vzctl", "resume", ctid]


def destroy(ctid: str) -> list[str]:
    return ["vzctl", "destroy", ctid]


def migrate(
    dialect: Dialect,
    ctid: str,
    target: str,
    *,
    live: bool,
    keep_source: bool = False,
    dry_run: bool = False,
    ssh: t.Sequence[str] = (),
) -> list[str]:
    """Move to the HostOS at `target`; with `dry_run` only look whether that would work. `ssh`: one string each."""
    argv = ["vzmigrate", "-r", "no" if keep_source else "yes", *(["--dry-run"] if dry_run else [])]
    argv += [f"--ssh={option}" for option in ssh]
    if live:
        argv.append("--live" if dialect.legacy else "--online")
    return [*argv, text_of("target", target), ctid]


def text_of(what: str, text: str) -> str:
    """`text` if every tool keeps it as it is. DriverError names what it is and the sign that is in the way."""
    match = _FORBIDDEN.search(text)
    if match is not None:
        raise DriverError(f"{what} {text!r}: {match.group()!r} is not allowed, OpenVZ's tools do not keep it intact")
    if not text or text.startswith("-"):
        raise DriverError(f"{what} {text!r}: must not be empty, nor begin with a dash")
    return text


def host_of(text: str) -> str:
    """vzctl does not look at host names at all."""
    if len(text) > 253 or not _HOSTNAME.match(text):
        raise DriverError(f"hostname {text!r}: use letters, digits, dashes and dots only, at most 63 between two dots")
    return text


def _kib(size: int) -> str:
    """Soft and hard limit in blocks of 1 KiB, rounded up."""
    blocks = -(-size // 1024)
    return f"{blocks}:{blocks}"
