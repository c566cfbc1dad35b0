#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action `hostos_certificate`, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hostos_certificate
short_description: Sign a HostOS's certificate requests with the cluster's own authority
version_added: 1.0.0
description:
  - Signs certificate requests of one HostOS on the controller. The role P(oscarv.virt.hostos_kvm#role) uses it; the
    certificates let HostOSes move guests to each other over TLS, and nobody else.
  - Of a request only the public key is used. Whom the certificate is for and what it is good for is decided by the options,
    so that a HostOS cannot ask for another one's name.
  - The authority is made in O(pki_dir) when there is none. Whoever has its key can make guests move to him, so it stays on the controller.
author:
  - The oscarv.virt authors (@oscarv)
options:
  pki_dir:
    description:
      - Folder on the controller with C(ca.pem) and C(ca.key); made, with a new authority, if C(ca.pem) is not there.
      - Either this or O(ca_certificate) is needed.
    type: path
  ca_certificate:
    description: The authority's certificate (PEM), where no folder outlives a run, as under AWX.
    type: str
  ca_key:
    description: The authority's private key (PEM, elliptic curve, no passphrase). Needed with O(ca_certificate); take it from a vault.
    type: str
  cluster:
    description: Name of the cluster; stands in the certificate of a new authority.
    type: str
    required: true
  requests:
    description: A certificate request (PEM) for each use; the use stands in the certificate's organizational unit, as C(oscarv.virt USE).
    type: dict
    required: true
  names:
    description: The HostOS's inventory name, then its other names and addresses. The first becomes the common name.
    type: list
    elements: str
    required: true
  days:
    description: How long the certificates are valid; never longer than the authority.
    type: int
    default: 730
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
attributes:
  check_mode:
    support: full
    details:
      - Signs nothing and makes no authority.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every call signs. Call it when the certificates that there are will not do.
  action:
    description: Runs on the controller.
    support: full
"""

EXAMPLES = r"""
- name: Sign what the HostOS asked for
  oscarv.virt.hostos_certificate:
    pki_dir: "{{ inventory_dir }}/.oscarv/pki"
    cluster: tcd
    requests:
      libvirt: "{{ request_of_this_hostos }}"
    names: ["{{ inventory_hostname }}", "{{ ansible_host }}"]
  register: signed
"""

RETURN = r"""
ca:
  description: The authority's certificate (PEM).
  returned: success, not in check mode
  type: str
certificates:
  description: A certificate (PEM) for each use.
  returned: success, not in check mode
  type: dict
new_authority:
  description: Whether O(pki_dir) had no authority, so that a new one began.
  returned: success, not in check mode
  type: bool
not_after:
  description: When the first of them ends, in seconds since the epoch.
  returned: success, not in check mode
  type: int
"""
