#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action `image`, which runs on the controller and has image_build do the work on the builder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Have the images of a definition in the store of a builder
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Takes the recipes of a definition (C(images)) and makes those images that the builder's store does not have yet. Run it
    on the builder; the role P(oscarv.virt.image#role) does so, and sees to the builder's packages.
  - A recipe's identity is the sha256 of everything that it says and of the contents of its roles. As long as that stays the
    same, nothing is built.
  - Roles are looked for in C(roles/) beside the definition or beside its folder, in C(roles/) beside the playbook, in Ansible's
    C(roles_path), and, by their full name, in collections. Roles that they depend on come along.
  - Where a whole folder is the inventory, Ansible takes every file in it for an inventory source, also those of a folder
    C(roles/), and runs those that can be run. Then have the roles beside the folder.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    description: Runs on the controller, and calls M(oscarv.virt.image_build) on the target.
    support: full
options:
  definition:
    description: The definition. Without it the variable C(oscarv_definition) says where it is; the inventory plugin sets it.
    type: path
  images:
    description: Names of the images; empty for all of the definition.
    type: list
    elements: str
    default: []
  store:
    description: The folder with the finished images, on the builder.
    type: path
    default: /var/lib/oscarv-store
  store_url:
    description: Where HostOSes can fetch what is in the store.
    type: str
  ansible_playbook:
    description:
      - The C(ansible-playbook) that applies roles, on the builder. Over a local connection it is the one that is running;
        elsewhere C(ansible-playbook) of the builder's path.
    type: str
  collections_path:
    description:
      - Folders with collections that roles may use, on the builder. Over a local connection these are the controller's.
      - A role of a collection brings its own collection along.
    type: list
    elements: path
  mirror:
    description: Debian archive to fetch from, in place of the builder's own. The image does not know of it.
    type: str
  mirror_security:
    description: The same for Debian's security archive.
    type: str
"""

EXAMPLES = r"""
- name: Have all images
  oscarv.virt.image:
    store_url: http://10.0.4.2:7480
  become: true

- name: What would be built?
  oscarv.virt.image:
    definition: /srv/clusters/tcd.oscarv.yml
    images: [debian-worker]
  check_mode: true
"""

RETURN = r"""
builds:
  description: What is in the store, by image. Images that could not be made are missing.
  returned: always
  type: dict
  sample:
    debian-worker:
      build_id: 3c9b...
      created: "2026-11-20T23:42:29+00:00"
      image: debian-worker
      path: /var/lib/oscarv-store/3c9b.../disk.qcow2
      recipe_id: 5f3a...
      size: 203555328
      url: http://10.0.4.2:7480/3c9b.../disk.qcow2
      virtual_size: 1073741824
built:
  description: Names of the images that were made, or in check mode would be.
  returned: always
  type: list
  elements: str
failed_images:
  description: Names of images that could not be made, and why.
  returned: always
  type: dict
missing_packages:
  description: Debian packages that the builder lacks in order to make what is missing.
  returned: in check mode
  type: list
  elements: str
"""
