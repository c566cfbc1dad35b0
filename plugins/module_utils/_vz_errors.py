# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenVZ tool that failed, as an error that names the guest, what was wrong and what to do."""

from __future__ import annotations

import typing as t

from ._driver import DriverError
from ._vz_codes import meaning

#: No error needs more of what a tool printed.
_MOST_LINES = 6


class VzError(DriverError):
    """`code` is the exit code; the message has it in words."""

    def __init__(self, message: str, tool: str, code: int) -> None:
        super().__init__(message)
        self.tool = tool
        self.code = code


def failed(argv: t.Sequence[str], code: int, said: str, dialect: str, guest: str = "") -> VzError:
    """`said`: what the tool printed; `guest`: whom it was about, if anybody."""
    tool = argv[0].rsplit("/", 1)[-1]
    sense = meaning(tool, code, dialect)
    who = f"guest {guest}: " if guest else ""
    lines = [line.strip() for line in said.splitlines() if line.strip()][-_MOST_LINES:]
    words = f" It said: {' / '.join(lines)}." if lines else ""
    remedy = f" {sense.remedy[:1].upper()}{sense.remedy[1:]}." if sense.remedy else ""
    return VzError(f"{who}`{shown(argv)}` failed with code {code}: {sense.what}.{words}{remedy}", tool, code)


def shown(argv: t.Sequence[str]) -> str:
    """A command for people: passwords hidden, our mark cut short."""
    words = []
    hide = False
    for word in argv:
        words.append("********" if hide else (word if len(word) <= 80 else f"{word[:60]}..."))
        hide = word == "--userpasswd"
    return " ".join(words)
