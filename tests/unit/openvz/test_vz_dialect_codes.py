# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_codes as codes
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._vz_dialect import LEGACY, VZ7, read_dialect
from ansible_collections.oscarv.virt.plugins.module_utils._vz_errors import failed
from recorded import commands, recorded


def expand(text: str) -> set[int]:
    found: set[int] = set()
    for part in re.split(r"[\s,]+", text.strip()):
        first, _dash, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


#: Section 6.8 of the reference.
BOTH = expand(
    "1 3 5-18 20-24 27-29 31-36 40 41 43 44 46-55 60-68 70-74 78 79 82 85 86 91 104-108 133 139 151-161 166 167"
)
ONLY = {LEGACY: expand("99 109 129-131 148"), VZ7: expand("4 129-132 135-137 141 221 226 231-233")}
#: Section 6.7.
MIGRATE = {LEGACY: expand("1 2 4 6-10 12-20"), VZ7: expand("1-10 12 21 22 31 48 56 73 104")}


@pytest.mark.parametrize("dialect", [LEGACY, VZ7])
def test_every_exit_code_of_the_reference_has_words(dialect: str) -> None:
    assert (BOTH | ONLY[dialect]) - codes.known("vzctl", dialect) == set()
    assert MIGRATE[dialect] - codes.known("vzmigrate", dialect) == set()
    for tool, wanted in (("vzctl", BOTH | ONLY[dialect]), ("vzmigrate", MIGRATE[dialect])):
        for code in wanted:
            sense = codes.meaning(tool, code, dialect)
            assert "reference" not in sense.what, (tool, code)
            assert sense.remedy, (tool, code)


def test_codes_that_differ_between_the_dialects_are_told_apart() -> None:
    assert "name" in codes.meaning("vzctl", 131, LEGACY).what
    assert "technology" in codes.meaning("vzctl", 131, VZ7).what
    assert "NIC" in codes.meaning("vzctl", 130, LEGACY).what
    assert "NIC" in codes.meaning("vzctl", 136, VZ7).what
    assert "name" in codes.meaning("vzctl", 137, VZ7).what
    assert "not say" in codes.meaning("vzctl", 137, LEGACY).what


def test_every_code_that_was_recorded_is_known() -> None:
    # exec2 passes the guest's own code through: 7 and 127 are not vzctl's
    seen = {command.code for command in commands() if not command.text.startswith("vzctl exec2")}
    assert seen - {0} - codes.known("vzctl", LEGACY) == set()
    assert {9, 14, 16, 17, 20, 21, 31, 32, 40, 41, 44, 82, 91, 105, 109, 131} - {16} <= seen


def test_an_error_names_guest_command_code_words_and_remedy() -> None:
    recording = recorded("vzctl start 201", 1)
    assert recording.code == 105
    error = failed(["vzctl", "start", "201"], recording.code, recording.stderr, LEGACY, "wn001")
    assert str(error) == (
        "guest wn001: `vzctl start 201` failed with code 105: starting this container is disabled (DISABLED=yes)."
        " It said: Container start disabled. `vzctl set CTID --disabled no --save`."
    )
    assert (error.tool, error.code) == ("vzctl", 105)


def test_a_password_is_not_shown() -> None:
    assert "hush" not in str(failed(["vzctl", "set", "201", "--userpasswd", "root:hush"], 74, "", LEGACY))


def test_a_signal_and_an_unknown_code_are_not_given_a_wrong_meaning() -> None:
    assert "signal 9" in str(failed(["vzctl", "stop", "201"], -9, "", LEGACY))
    assert "does not say" in str(failed(["vzctl", "stop", "201"], 250, "", VZ7))


def test_the_recorded_version_is_legacy() -> None:
    dialect = read_dialect(recorded("vzctl --version").stdout)
    assert (dialect.name, dialect.version) == (LEGACY, "4.11.1-3.ga3f732ef")
    assert not dialect.has_pause


@pytest.mark.parametrize("version", ["7.0.194", "8.0.90", "9.0.1"])
def test_seven_and_newer_is_vz7(version: str) -> None:
    assert read_dialect(f"vzctl version {version}\n").name == VZ7


@pytest.mark.parametrize("text", ["", "bash: vzctl: command not found", "vzctl version 5.0"])
def test_what_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(DriverError, match="vzctl"):
        read_dialect(text)
