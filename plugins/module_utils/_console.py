# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest said last on its console, for those who ask why it does not answer."""

from __future__ import annotations

import os
import re

#: Bytes of the log's end that are looked at: some screens of text.
TAIL = 8192
#: Terminals' commands (colours, cursor) and what else is no text.
_NOT_TEXT = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f]")


def last_lines(path: str, count: int) -> list[str]:
    """The last `count` lines with text in them; none if there is no log."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = (_NOT_TEXT.sub("", line).rstrip() for line in text.split("\n"))
    return [line for line in lines if line][-count:]
