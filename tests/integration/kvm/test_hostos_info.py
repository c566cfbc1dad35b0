# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import time
import typing as t
import json

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _hostos
from ansible_collections.oscarv.virt.plugins.module_utils._driver import CAPABILITIES
from run_module import run_module


def test_x(host):
    r = run_module("hostos_info", {"uri": host.daemon.qemu_uri})
    x = r["hostos"]["cpu"]["xml"]
    print(json.dumps(r, indent=1)[:6000])
    t0 = time.time()
    print(run_module("hostos_info", {"uri": host.daemon.qemu_uri, "baseline_of": [x, x]})["baseline"], time.time() - t0)
    print(run_module("hostos_info", {"uri": "qemu+unix:///system?socket=/nowhere"}))
    t0 = time.time()
    print(_hostos.probe(_hostos.qemu_binary(), "tcg"), time.time() - t0)
    t0 = time.time()
    print(_hostos.probe(_hostos.qemu_binary(), "kvm", 3), time.time() - t0)
    assert 0
