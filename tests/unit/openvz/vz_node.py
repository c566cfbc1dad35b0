# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of OpenVZ's tools on files of its own, for unit tests."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys
import threading
import typing as t
from unittest import mock

DOUBLE = pathlib.Path(__file__).resolve().parents[2] / "openvz_double"

#: stdout and the environment belong to the whole process.
_ONE_AT_A_TIME = threading.Lock()

#: As in the sample of the real tool that the transcript was recorded with.
SAMPLE = """PHYSPAGES="0:256M"
SWAPPAGES="0:512M"
DISKSPACE="2G:2.2G"
DISKINODES="131072:144179"
QUOTATIME="0"
CPUUNITS="1000"
NETFILTER="stateless"
"""


class Node:
    """One HostOS of the double, under `root`."""

    def __init__(self, root: pathlib.Path, *, vswap: bool = True) -> None:
        self.root = root
        for directory in ("etc/vz/conf", "etc/vz/names", "vz/template/cache", "vz/private", "vz/root", "proc/vz"):
            (root / directory).mkdir(parents=True)
        (root / "etc/vz/vz.conf").write_text("# a comment\nLOCKDIR=/vz/lock\nTEMPLATE=/vz/template\n", encoding="utf-8")
        (root / "etc/vz/conf/ve-vswap-256m.conf-sample").write_text(SAMPLE, encoding="utf-8")
        if vswap:
            (root / "proc/vz/vswap").touch()
        self.template("tiny-1.0-x86_64")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{DOUBLE}:{os.environ['PATH']}",
            "OPENVZ_DOUBLE_ROOT": str(self.root),
            "OPENVZ_DOUBLE_BACKEND": "recording",
        }

    def template(self, name: str) -> None:
        content = self.root / "content"
        (content / "etc").mkdir(parents=True, exist_ok=True)
        (content / "etc/hostname").write_text("template\n", encoding="utf-8")
        tarball = self.root / "vz/template/cache" / f"{name}.tar.gz"
        subprocess.run(["tar", "-C", str(content), "-czf", str(tarball), "."], check=True)

    def run(self, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(words), env=self.environment, capture_output=True, text=True, check=False, timeout=timeout
        )

    def good(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, (words, done)
        return done.stdout

    def conf(self, ctid: int) -> str:
        return (self.root / f"etc/vz/conf/{ctid}.conf").read_text(encoding="utf-8")

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(words), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def fault(self, line: str) -> None:
        with (self.root / "etc/vz/double.faults").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def execute(self, argv: t.Sequence[str], timeout: float) -> t.Any:
        """For the driver's Tools: the double's program inside this process, which costs a hundredth of a new one."""
        from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output

        if str(DOUBLE) not in sys.path:
            sys.path.insert(0, str(DOUBLE))
        program = importlib.import_module(f"vzdouble.{argv[0]}")
        out, err = io.StringIO(), io.StringIO()
        with (
            _ONE_AT_A_TIME,
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = program.main(list(argv))
        return Output(code, out.getvalue(), err.getvalue())
