# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Output recorded from the real vzctl 4.11, for the tests of the parsers."""

from __future__ import annotations

import dataclasses
import pathlib

TRANSCRIPT = pathlib.Path(__file__).resolve().parents[2] / "openvz_double" / "transcripts-vzctl-4.11.txt"


@dataclasses.dataclass
class Command:
    """One recorded command. `conf` and `other` are what the recorder noted after it."""

    text: str
    out: list[str] = dataclasses.field(default_factory=list)
    err: list[str] = dataclasses.field(default_factory=list)
    code: int = 0
    conf: list[str] = dataclasses.field(default_factory=list)
    other: list[str] = dataclasses.field(default_factory=list)

    @property
    def stdout(self) -> str:
        return "".join(f"{line}\n" for line in self.out)

    @property
    def stderr(self) -> str:
        return "".join(f"{line}\n" for line in self.err)


def commands() -> list[Command]:
    """Every command of the transcript, in order."""
    found: list[Command] = []
    for line in TRANSCRIPT.read_text(encoding="utf-8").splitlines():
        mark, _bar, rest = line.partition("|")
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.startswith("#") or not line.strip():
            continue
        elif mark.strip() in ("out", "err", "conf"):
            getattr(found[-1], mark.strip()).append(rest[1:])
        elif line.startswith("  rc="):
            found[-1].code = int(line[5:])
        else:
            found[-1].other.append(line.strip())
    return found


def recorded(text: str, nth: int = 0) -> Command:
    """The nth recording of a command."""
    return [command for command in commands() if command.text == text][nth]


#: As the printer of 4.11 lays it out: one field on a line, strings not escaped. Values from the reference's sample.
LIST = """[
  {
    "ctid": 101,
    "private": "/vz/private/101",
    "root": "/vz/root/101",
    "hostname": "ct101.example.org",
    "name": null,
    "description": "A test CT",
    "ostemplate": "debian-12.0-x86_64-minimal",
    "ip": ["10.91.0.101"],
    "nameserver": ["10.77.0.1", "10.77.0.2"],
    "searchdomain": ["example.org"],
    "status": "running",
    "physpages": {
      "held": 14211,
      "maxheld": 20011,
      "barrier": 0,
      "limit": 131072,
      "failcnt": 0
    },
    "swappages": {
      "held": 0,
      "maxheld": 0,
      "barrier": 0,
      "limit": 32768,
      "failcnt": 0
    },
    "diskspace": {
      "usage": 0,
      "softlimit": 3145728,
      "hardlimit": 3145728
    },
    "uptime": 0.000,
    "cpulimit": 150,
    "cpuunits": 2000,
    "cpus": 2,
    "onboot": true,
    "bootorder": 10,
    "layout": "simfs",
    "disabled": false
  }
]
"""
