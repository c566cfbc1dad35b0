# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module for a HostOS has."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  hypervisor:
    description:
      - The hypervisor of this HostOS.
    type: str
    choices: [kvm, xen, lxc, openvz]
    default: kvm
  uri:
    description:
      - Where the hypervisor is reached. V(openvz) has no such place.
      - "The default for V(kvm) is C(qemu:///system), for V(xen) C(xen:///system), for V(lxc) C(lxc:///system).
        libvirt's simulator (C(test+unix:///default?socket=...)) can be used to try things out: it has guests, but neither files nor processes."
    type: str
  state_dir:
    description:
      - Where this collection keeps what it must remember on a HostOS (its lock, the tombstones of guests that moved away).
    type: path
    default: /var/lib/oscarv-host
  emulation:
    description:
      - What to do on a HostOS where KVM does not work.
      - V(auto) lets QEMU emulate, which is slow. The role that made the HostOS has refused such a machine unless it was told otherwise.
      - V(refuse) refuses guests there.
    type: str
    choices: [auto, refuse]
    default: auto
requirements:
  - Python 3.9 or later and its libvirt module (Debian C(python3-libvirt)) on the HostOS
  - C(qemu-img), C(ssh-keygen) and one of C(genisoimage), C(mkisofs) and C(xorrisofs) on the HostOS
"""
