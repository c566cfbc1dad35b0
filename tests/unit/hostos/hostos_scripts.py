# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the HostOS roles as modules."""

from __future__ import annotations

import importlib.util
import pathlib
import types

ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"


def script(role: str, name: str) -> types.ModuleType:
    """A fresh module, so that a test may change its constants."""
    spec = importlib.util.spec_from_file_location(f"{role}_{name}", ROLES / role / "files" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
