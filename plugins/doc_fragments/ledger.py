# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every action that needs the definition and the ledger."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  definition:
    description:
      - Path of the cluster's definition, a file C(*.oscarv.yml). A relative path is relative to the playbook.
      - If not set, the variable C(oscarv_definition) is used, which the inventory plugin
        P(oscarv.virt.cluster#inventory) sets.
    type: path
  ledger:
    description:
      - URL of the ledger, V(sqlite:///PATH) or V(postgresql://USER@HOST/DATABASE). A relative V(PATH) is relative to
        the folder of the definition.
      - If not set, the environment variable E(OSCARV_LEDGER) is used, and if that is not set, C(ledger) of the definition.
      - Give the password of a PostgreSQL user in E(PGPASSWORD) or in C(~/.pgpass).
    type: str
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
requirements:
  - SQLAlchemy >= 2.0 (on the controller, to change the ledger)
  - psycopg >= 3.1 (on the controller, for a ledger in PostgreSQL)
"""
