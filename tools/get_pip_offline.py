# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for pip's bootstrap script where its server cannot be reached: Python brings a pip of its own."""

from __future__ import annotations

import subprocess
import sys

#: Options of the real script that pip itself does not know.
BOOTSTRAP_ONLY = {"--no-setuptools", "--no-wheel"}

# In a process of its own: ensurepip switches pip's configuration off for the process it runs in.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
arguments = [argument for argument in sys.argv[1:] if argument not in BOOTSTRAP_ONLY]
subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=True)
