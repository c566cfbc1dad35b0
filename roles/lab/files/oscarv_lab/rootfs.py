# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems for HostOSes: one per suite and content, built once, never changed, shared by all labs."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import typing as t

from .base import LabError, Report, locked, run

#: What every HostOS has before a role touches it. No libvirt, no QEMU: installing those is what is to be tried.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "systemd-sysv",
    "udev",
)

#: nspawn hands cgroup v1 controllers over read-only; a hypervisor must be able to make groups. "busy" without `bind`.
CGROUP_UNIT = """[Unit]
Description=Make the cgroup v1 controllers writable (oscarv.virt lab)
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'for c in /sys/fs/cgroup/*; do \\
  if [ ! -L $$c ] && mountpoint -q $$c; then mount -o remount,bind,rw $$c; fi; done'

[Install]
WantedBy=sysinit.target
"""

#: Runs at the end of the build, with the tree as $1. apt's timers would hold dpkg's lock when a role wants it.
#: dpkg need not sync: after a crash a lab is made again.
CUSTOMIZE = """set -eu
systemctl --root="$1" enable ssh.service systemd-networkd.service oscarv-lab-cgroup.service
systemctl --root="$1" mask apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service
cd "$1"
rm -f etc/ssh/ssh_host_*_key* etc/machine-id var/lib/dbus/machine-id etc/hostname etc/resolv.conf
: > etc/machine-id
echo force-unsafe-io > etc/dpkg/dpkg.cfg.d/oscarv-lab
if [ -n "$(ls usr/local/share/ca-certificates)" ]; then chroot . update-ca-certificates; fi
"""

CERTIFICATES = pathlib.Path("/usr/local/share/ca-certificates")


def apt_options() -> str:
    """How this machine's apt reaches its registries (proxies, checks, retries), for the apt of the HostOSes."""
    kept = ("acquire::http", "acquire::https", "acquire::check-", "acquire::retries", "acquire::forceipv")
    lines = run("apt-config", "dump", "--format", '%F "%v";%n', "Acquire").splitlines()
    ours = ['Acquire::Languages "none";', 'APT::Keep-Downloaded-Packages "true";', ""]
    return "\n".join([x for x in lines if x.lower().startswith(kept)] + ours)


class RootFs:
    """The root file system of one suite under `directory`; the name tells everything that went into it."""

    def __init__(
        self, directory: pathlib.Path, suite: str, sources: t.Sequence[str], packages: t.Sequence[str]
    ) -> None:
        self.directory = directory
        self.suite = suite
        self.sources = list(sources)
        self.packages = sorted({*PACKAGES, *packages})
        self.certificates = {x.name: x.read_text() for x in sorted(CERTIFICATES.glob("*.crt"))}
        self.apt = apt_options()
        content = [suite, self.sources, self.packages, self.certificates, self.apt, CGROUP_UNIT, CUSTOMIZE]
        self.name = f"{suite}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"

    @property
    def path(self) -> pathlib.Path:
        return self.directory / self.name

    def ensure(self, report: Report) -> None:
        """Build it unless it is there. A killed build leaves no process and no mount, and nothing with a final name."""
        if self.path.exists() or not report.will(f"build root file system {self.name}"):
            return
        self.directory.mkdir(mode=0o700, exist_ok=True)  # old set-uid programs are nothing for everybody
        work = self.directory / f".build.{self.name}"
        with locked(work):
            for left_over in work.iterdir():
                shutil.rmtree(left_over)
            if not self.path.exists():
                self._build(work)
            shutil.rmtree(work)

    def _build(self, work: pathlib.Path) -> None:
        extra, tree = work / "extra", work / "tree"
        (extra / "etc/systemd/system").mkdir(parents=True)
        (extra / "etc/systemd/system/oscarv-lab-cgroup.service").write_text(CGROUP_UNIT)
        (extra / "usr/local/share/ca-certificates").mkdir(parents=True)
        for name, text in self.certificates.items():
            (extra / "usr/local/share/ca-certificates" / name).write_text(text)
        (work / "extra/customize").write_text(CUSTOMIZE)
        (work / "extra/apt.conf").write_text(self.apt)
        # Debian's keys, also where the machine is not a Debian
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        # In a PID and mount namespace of its own that dies with us: nothing is left running or mounted (--kill-child).
        run(
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "-m", "-p", "-f", "--kill-child", "--propagation", "private", "--mount-proc"),
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--keyring={keyring}"),
            *(f"--aptopt={extra}/apt.conf", f"--include={','.join(self.packages)}"),
            *("--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"),
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            f"--customize-hook=copy-in {extra}/etc/systemd/system/oscarv-lab-cgroup.service /etc/systemd/system",
            f"--customize-hook=sync-in {extra}/usr/local/share/ca-certificates /usr/local/share/ca-certificates",
            f'--customize-hook=sh {extra}/customize "$1"',
            *(self.suite, str(tree), *self.sources),
        )
        if not (tree / "usr/sbin/sshd").exists():
            raise LabError(f"lab_suite: the root file system of {self.suite} was built without sshd; see lab_packages")
        tree.replace(self.path)


def remove_unused(directory: pathlib.Path, used: t.Collection[str], report: Report) -> None:
    """Remove root file systems that no lab stands on. The caller holds the lock of the whole lab directory."""
    if not directory.exists():
        return
    for tree in sorted(directory.iterdir()):
        if tree.name not in used and not tree.name.startswith(".build.") and report.will(f"remove {tree.name}"):
            # Renamed first: a removal that is cut off leaves nothing that looks like a root file system.
            work = directory / f".build.{tree.name}"
            with locked(work):
                tree.replace(work / "tree")
                shutil.rmtree(work)
