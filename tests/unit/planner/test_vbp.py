# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's reader of vector packing instances in text."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

import vbp

TWO = "2\n10 10\n3\n6 1 2\n4 9 2\n1 1 0\n"


def write(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_folder_is_read_with_its_optima(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "two.vbp", TWO)
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", "big.vbp", "4 9 9 9 9 1 1 2 3 4 5")
    write(tmp_path, "optima.txt", "# found by others\ntwo.vbp 2\nabsent 7\n")
    big, two = vbp.folder(tmp_path)
    assert two == vbp.Instance("two", (10, 10), (((6, 1), 2), ((4, 9), 2), ((1, 1), 0)), 2)
    assert big == vbp.Instance("big", (9, 9, 9, 9), (((1, 2, 3, 4), 5),), None)


@pytest.mark.parametrize("engine", ["pure", "auto"])
def test_an_instance_is_solved_and_bounded(tmp_path: pathlib.Path, engine: str) -> None:
    assert vbp.solve(vbp.read(write(tmp_path, "two.vbp", TWO)), engine) == (2, 2)


def test_more_than_three_dimensions_are_refused() -> None:
    with pytest.raises(vbp.VbpError, match="4 dimensions, the planner knows three"):
        vbp.solve(vbp.Instance("big", (9, 9, 9, 9), ()), "pure")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2 10", "list index"),
        ("2 10 10 1 5 5", "fewer numbers"),
        ("1 ten", "invalid literal"),
        ("1 9 1 -3 1", "negative"),
    ],
)
def test_what_is_no_instance_is_said(tmp_path: pathlib.Path, text: str, words: t.Any) -> None:
    path = write(tmp_path, "bad.vbp", text)
    with pytest.raises(vbp.VbpError, match=f"bad.vbp: .*{words}"):
        vbp.read(path)
