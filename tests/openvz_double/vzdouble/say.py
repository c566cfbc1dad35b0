# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tools say and how they fail."""

from __future__ import annotations

import sys


class Failure(Exception):
    """Ends the command with an exit code; what had to be said was said."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class Say:
    """--quiet silences what is said on stdout; errors are always said."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def out(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def err(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def fail(self, code: int, *lines: str) -> Failure:
        for line in lines:
            self.err(line)
        return Failure(code)
