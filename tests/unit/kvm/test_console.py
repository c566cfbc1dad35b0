# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a console's log, as people can read it."""

from __future__ import annotations

import pathlib

from ansible_collections.oscarv.virt.plugins.module_utils._console import TAIL, last_lines


def test_the_last_lines_with_text_without_the_terminals_commands(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "wn1-serial.log"
    log.write_bytes(b"early\r\n\x1b[0;32mOK\x1b[0m started\r\n\r\n\x1b[2J  \r\nKernel panic \xff\r\n\x1b[6n")
    assert last_lines(str(log), 2) == ["OK started", "Kernel panic \ufffd"]
    assert last_lines(str(log), 10)[0] == "early"


def test_of_a_long_log_only_the_end_is_read(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "wn1-serial.log"
    log.write_bytes(b"x" * 3 * TAIL + b"\nlast\n")
    lines = last_lines(str(log), 10)
    assert lines[-1] == "last" and len(lines[0]) < TAIL


def test_no_log_no_lines(tmp_path: pathlib.Path) -> None:
    assert last_lines(str(tmp_path / "none"), 10) == []
