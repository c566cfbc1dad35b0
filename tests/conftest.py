# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this tree importable as ansible_collections.oscarv.virt, the way Ansible itself does it."""

from __future__ import annotations

import pathlib
import signal
import sys
import threading

COLLECTIONS = pathlib.Path(__file__).resolve().parents[1] / ".build" / "collections"


def pytest_configure() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # who is told to end takes away what it started
    if "ansible_collections" in sys.modules:
        return  # ansible-test has its own way
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()
