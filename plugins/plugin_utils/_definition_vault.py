# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens `!vault` values of a definition. Only called just before a spec is made: nothing else needs a secret."""

from __future__ import annotations

import typing as t

from ._model import Vaulted


class VaultError(ValueError):
    """A value that cannot be decrypted; the message names its key path, never its content."""


def reveal(value: t.Any, decrypt: t.Callable[[str], str | bytes], path: str = "cloud_init") -> t.Any:
    """A copy of plain data with every Vaulted value decrypted.

    `decrypt` gets the text that follows `!vault`; in an action plugin it is `self._loader._vault.decrypt`. Raises
    VaultError, with the path of the key, where that fails.
    """
    if isinstance(value, Vaulted):
        try:
            plain = decrypt(value.ciphertext)
        except Exception as error:  # whatever a vault raises, the person has to know which value it was
            raise VaultError(f"{path}: cannot be decrypted: {type(error).__name__}: {error}") from error
        return plain.decode() if isinstance(plain, bytes) else plain
    if isinstance(value, t.Mapping):
        return {key: reveal(item, decrypt, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [reveal(item, decrypt, f"{path}[{index}]") for index, item in enumerate(value)]
    return value
