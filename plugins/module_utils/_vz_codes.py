# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exit codes of vzctl and vzmigrate mean, in words that a person can act upon."""

from __future__ import annotations

import dataclasses
import typing as t

from ._vz_dialect import LEGACY, VZ7

#: Codes that the driver itself acts upon; the same in both dialects.
LOCKED = 9
NO_CONFIG = 14
NOT_RUNNING = 31
RUNNING = 32
NOT_MOUNTED = 40
MOUNTED = 41
PRIVATE_EXISTS = 44


@dataclasses.dataclass(frozen=True)
class Meaning:
    """`what` completes "because", `remedy` tells what to do; both without a full stop."""

    what: str
    remedy: str = ""


_ARGUMENTS = "this is a fault of the driver: report it with the command line"
_SET = "set it with `vzctl set CTID --OPTION VALUE --save`, or apply a sample with --applyconfig"
_VZ_CONF = "look into /etc/vz/vz.conf and the container's configuration"
_KERNEL = "boot the OpenVZ kernel and start the service vz (oscarv.virt.hostos)"
_LOG = "look into /var/log/vzctl.log"
_QUOTA = "check the quota with `vzquota stat CTID` on the HostOS, and free space"
_IMAGE = "check the image with `ploop check` and the space under /vz"

#: Where both generations agree.
_BOTH: dict[int, Meaning] = {
    1: Meaning("the kernel refused the resource limits", "ask for less memory, or look into `dmesg`"),
    2: Meaning("the fair scheduler refused the CPU share", "look into `dmesg`"),
    3: Meaning("a system call failed, or the kernel has no VSwap", f"{_LOG} and `dmesg`"),
    5: Meaning("this is not an OpenVZ kernel", _KERNEL),
    6: Meaning("the HostOS ran out of a resource", "free memory or processes on the HostOS"),
    7: Meaning("the kernel could not make the container", f"{_LOG} and `dmesg`"),
    8: Meaning("the command inside the container failed", "its own exit code was lost; exec2 keeps it"),
    LOCKED: Meaning(
        "another vzctl holds the container's lock", "wait for it, or see /vz/lock/CTID.lck for its process"
    ),
    10: Meaning("/etc/vz/vz.conf is missing", "install OpenVZ's tools properly (oscarv.virt.hostos)"),
    11: Meaning("a script is missing", "reinstall vzctl; its scripts lie in /usr/lib/vzctl or /usr/libexec"),
    12: Meaning("access was denied, or the licence does not allow it", "run as root; check `vzlicview` on Virtuozzo"),
    13: Meaning("a capability could not be set", "check CAPABILITY in the container's configuration"),
    NO_CONFIG: Meaning("the container has no configuration file: it does not exist", "create it first"),
    15: Meaning("a command inside the container took too long", "look at the container with `vzctl enter`"),
    16: Meaning("checkpointing failed", "look into `dmesg` and the log beside its dump"),
    17: Meaning("restoring from the checkpoint failed", "look into `dmesg` and the log beside its dump"),
    18: Meaning("the login uid of the container could not be set", "look into `dmesg`"),
    20: Meaning("vzctl does not know an option that it was given", _ARGUMENTS),
    21: Meaning("vzctl does not take the value of an option", _ARGUMENTS),
    22: Meaning("VE_ROOT is not set", _VZ_CONF),
    23: Meaning("VE_PRIVATE is not set", _VZ_CONF),
    24: Meaning("TEMPLATE is not set", _VZ_CONF),
    27: Meaning("parameters are missing in the container's configuration", _SET),
    28: Meaning("limits are missing in the container's configuration (VSwap needs RAM and swap)", _SET),
    29: Meaning("OSTEMPLATE is not set", _SET),
    NOT_RUNNING: Meaning("the container is not running", "start it first"),
    RUNNING: Meaning("the container is running, or the change needs a stopped one", "stop it first"),
    33: Meaning("the container did not stop", "look at its processes, then `vzctl stop CTID --fast`"),
    34: Meaning("an IP address could not be added", "check that it is free and routed on the HostOS"),
    35: Meaning("the configuration does not hold together", "check it with `vzcfgvalidate`"),
    36: Meaning("the HostOS would be overcommitted", "free memory on the HostOS, or ask for less"),
    NOT_MOUNTED: Meaning("the container is not mounted", "nothing needs to be unmounted"),
    MOUNTED: Meaning("the container is still mounted", "`vzctl umount CTID` first"),
    43: Meaning(
        "the container has no private area", "look for it under VE_PRIVATE; without it the guest's data is gone"
    ),
    PRIVATE_EXISTS: Meaning(
        "there is a private area of this number already", "look whose it is, then move it away or destroy it"
    ),
    46: Meaning("there is no disk space left", "free space on the file system of /vz"),
    47: Meaning("the template is damaged", "put it into the template cache again (oscarv.virt.image)"),
    48: Meaning("the private area could not be made", "check space and permissions under VE_PRIVATE"),
    49: Meaning("the mount point could not be made", "check VE_ROOT"),
    50: Meaning("the private area could not be mounted", _LOG),
    51: Meaning("the private area could not be unmounted: something uses it", "see `fuser -vm` on the mount point"),
    52: Meaning("the private area could not be removed", "check permissions and open files under VE_PRIVATE"),
    53: Meaning("the kind of file system is not known", _VZ_CONF),
    54: Meaning("a directory could not be made", "check space and permissions under /vz"),
    55: Meaning("the disk quota is too small for what is there", "give it more disk"),
    60: Meaning("the disk quota could not be turned on", _QUOTA),
    61: Meaning("the disk quota could not be initialised", _QUOTA),
    62: Meaning("the disk quota could not be set", _QUOTA),
    63: Meaning("DISKSPACE is not set", _SET),
    64: Meaning("DISKINODES is not set", _SET),
    65: Meaning("the quota of users inside the container could not be set", _QUOTA),
    66: Meaning("the disk quota could not be turned off", _QUOTA),
    67: Meaning("the quota of users was not initialised", "restart the container"),
    68: Meaning("the use of the disk quota could not be read", _QUOTA),
    70: Meaning("the host name could not be set", "use letters, digits, dots and dashes only"),
    71: Meaning("the IP address is not valid", "correct the address"),
    72: Meaning("the DNS server could not be set", "correct the address"),
    73: Meaning("the search domain could not be set", "correct the domain"),
    74: Meaning("the password could not be changed", "look at the container's /etc/shadow"),
    77: Meaning("LOCKDIR is not set", _VZ_CONF),
    78: Meaning("the IP address is in use already", "find who answers with `arping`, or choose another one"),
    79: Meaning("an action script failed", "see the scripts beside the container's configuration"),
    82: Meaning("the sample configuration could not be copied", "check ve-NAME.conf-sample in /etc/vz/conf"),
    85: Meaning("the configuration file is damaged", "correct it by hand, or restore it"),
    86: Meaning("access to a device could not be set", "check DEVICES and DEVNODES in the configuration"),
    87: Meaning("applications could not be installed", _LOG),
    89: Meaning("no IP address is available", "give it one"),
    91: Meaning("the OS template is not in the cache", "put it into /vz/template/cache (oscarv.virt.image)"),
    100: Meaning("the container's IP addresses could not be read", _LOG),
    104: Meaning("a network device could not be moved into the container", "check that it exists and is free"),
    105: Meaning("starting this container is disabled (DISABLED=yes)", "`vzctl set CTID --disabled no --save`"),
    106: Meaning("iptables modules could not be set up", "load them on the HostOS"),
    107: Meaning("there is no configuration for the container's distribution", "check OSTEMPLATE and /etc/vz/dists"),
    108: Meaning("a script of the container's distribution is missing", "check /etc/vz/dists"),
    133: Meaning("the container did not reach its start-up goal in time", "look at its console"),
    139: Meaning("the configuration file could not be written", "check space and permissions of /etc/vz/conf"),
    151: Meaning("the disk image could not be made", _IMAGE),
    152: Meaning("the disk image could not be mounted", _IMAGE),
    153: Meaning("the disk image could not be unmounted", _IMAGE),
    154: Meaning("the disk image could not be resized", _IMAGE),
    155: Meaning("the disk image could not be converted", _IMAGE),
    166: Meaning("the disk image could not be compacted", _IMAGE),
}
_BOTH.update({code: Meaning("an operation on a snapshot failed", _IMAGE) for code in (*range(156, 162), 167)})

_ONLY: dict[str, dict[int, Meaning]] = {
    LEGACY: {
        99: Meaning("ploop is not supported here", "use --layout simfs, or install ploop and its kernel"),
        109: Meaning("the sample configuration could not be applied", "check ve-NAME.conf-sample in /etc/vz/conf"),
        128: Meaning("reinstalling failed", _LOG),
        129: Meaning("meminfo could not be set", "look into `dmesg`"),
        130: Meaning("the virtual NIC could not be set up", "check the bridge, and that MAC and device names are free"),
        131: Meaning("the name is taken, or was given without --save", "choose another name; see /etc/vz/names"),
        148: Meaning("the I/O limit could not be set", "check that the kernel has I/O limits"),
    },
    VZ7: {
        4: Meaning("vzctl ran out of memory", "free memory on the HostOS"),
        129: Meaning("memory management (SLM) could not be set", "look into `dmesg`"),
        130: Meaning("memory management (SLM) could not be set", "look into `dmesg`"),
        131: Meaning("the container needs a technology that this HostOS does not have", "move it to another HostOS"),
        132: Meaning("memory management (SLM) could not be set", "look into `dmesg`"),
        135: Meaning("meminfo could not be set", "look into `dmesg`"),
        136: Meaning(
            "the virtual NIC could not be set up", "check the network, and that MAC and device names are free"
        ),
        137: Meaning("the name is taken or not valid", "choose another name; see `vzlist -a -o ctid,name`"),
        141: Meaning("the container is managed by another HostOS", "look where it is registered"),
        221: Meaning("the template's cache was not found", "make it with `vzpkg create cache`"),
        226: Meaning("the memory manager vcmmd refused the limits", "check `systemctl status vcmmd`"),
        231: Meaning("the container could not be unmounted: it is busy", "see `fuser -vm` on its mount point"),
        232: Meaning("ploop failed", _IMAGE),
        233: Meaning("this is not supported here", "see the capabilities of this HostOS"),
    },
}

_SSH = "check ssh from this HostOS to the other as root, without a password"
_MIGRATE_BOTH: dict[int, Meaning] = {
    1: Meaning("vzmigrate does not understand its arguments", _ARGUMENTS),
    4: Meaning("the target could not be reached", _SSH),
    6: Meaning("copying the private area failed", "check space on the target and the network between them"),
    7: Meaning("the container could not be started on the target", "see /var/log/vzctl.log there; then settle"),
    8: Meaning("the container could not be stopped or checkpointed on the source", "stop it by hand, or move it cold"),
    9: Meaning("the container exists on the target already", "look whose it is; run oscarv.virt.settle"),
    10: Meaning("the container does not exist on the source", "read the HostOS again (oscarv.virt.status)"),
    12: Meaning("an IP address of it is in use on the target", "find who has it"),
}
_MIGRATE: dict[str, dict[int, Meaning]] = {
    LEGACY: {
        **_MIGRATE_BOTH,
        2: Meaning("the container is stopped, and a live move needs a running one", "move it cold"),
        13: Meaning("the disk quota could not be carried over", _QUOTA),
        14: Meaning("OpenVZ does not run on the target, or checkpointing is missing", "start vz there; move it cold"),
        15: Meaning("the container's configuration cannot be read", "check it with `vzcfgvalidate`"),
        16: Meaning("the target has no ploop", "install ploop there"),
        17: Meaning("the target has another version of checkpointing", "use one kernel on both, or move it cold"),
        18: Meaning("the target's CPU lacks features of this one", "move it cold"),
        19: Meaning("the target's configuration cannot be read", "check /etc/vz/vz.conf there"),
        20: Meaning("the container is locked", "wait for the other command"),
    },
    VZ7: {
        **_MIGRATE_BOTH,
        2: Meaning("a system call failed", _LOG),
        3: Meaning("the container is locked", "wait for the other command"),
        5: Meaning("the container is not valid or in a wrong state", "check it with `vzctl status`"),
        21: Meaning("the connection to the target broke", "check the network; run oscarv.virt.settle"),
        22: Meaning("the connection to the target timed out", "check the network; run oscarv.virt.settle"),
        31: Meaning("the target has not enough disk space", "free space under /vz there"),
        48: Meaning("a live move to an older version is not possible", "move it cold, or upgrade the target"),
        56: Meaning("the target's CPU lacks features of this one", "move it cold"),
        73: Meaning("the live move (phaul, CRIU) failed", "move it cold; see /var/log/vzmigrate"),
        104: Meaning("the dry run found that the move would fail", "see the messages above"),
    },
}
#: Codes of vzmigrate for a locked container.
MIGRATE_LOCKED: t.Mapping[str, int] = {LEGACY: 20, VZ7: 3}


def meaning(tool: str, code: int, dialect: str) -> Meaning:
    """Of an exit code that is not 0. `tool`: vzctl | vzlist | vzmigrate."""
    if code < 0:
        return Meaning(f"signal {-code} ended it", "see who did that, and run again")
    if tool == "vzmigrate":
        found = _MIGRATE[dialect].get(code)
    elif tool == "vzlist":
        found = Meaning("vzlist does not know the container or a field", _ARGUMENTS) if code == 1 else None
    else:
        found = _ONLY[dialect].get(code) or _BOTH.get(code)
    return found or Meaning("the reference does not say what this code means", _LOG)


def known(tool: str, dialect: str) -> frozenset[int]:
    """The codes that are described."""
    if tool == "vzmigrate":
        return frozenset(_MIGRATE[dialect])
    return frozenset(_BOTH) | frozenset(_ONLY[dialect])
