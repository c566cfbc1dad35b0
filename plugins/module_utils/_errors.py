# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that carry more than their text."""

from __future__ import annotations

import typing as t

from ._driver import DriverError


class StepFailed(DriverError):
    """A step of a guest's plan failed; `taken` are the words of those that were taken before it."""

    def __init__(self, message: str, taken: t.Sequence[str]) -> None:
        super().__init__(message)
        self.taken = tuple(taken)


def named(guest: str, text: str) -> str:
    """`text`, beginning with the guest's name if it does not yet."""
    return text if text.startswith(f"guest {guest}:") else f"guest {guest}: {text}"
