# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `hostos_certificate`; documented in plugins/modules/hostos_certificate.py."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "pki_dir": {"type": "path"},
    "ca_certificate": {"type": "str"},
    "ca_key": {"type": "str", "no_log": True},
    "cluster": {"type": "str", "required": True},
    "requests": {"type": "dict", "required": True},
    "names": {"type": "list", "elements": "str", "required": True},
    "days": {"type": "int", "default": 730},
}


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec=_OPTIONS,
            required_one_of=[("pki_dir", "ca_certificate")],
            mutually_exclusive=[("pki_dir", "ca_certificate")],
            required_together=[("ca_certificate", "ca_key")],
        )
        if self._task.check_mode:
            return {**result, "changed": True}
        try:
            return {**result, **self.sign(options)}
        except OSError as error:
            raise AnsibleActionFail(f"the cluster's certificate authority on the controller: {error}") from error

    def sign(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        try:
            from ..plugin_utils import _pki
        except ImportError as error:
            raise AnsibleActionFail(f"the Python package cryptography is missing on the controller: {error}") from error
        now = datetime.datetime.now(datetime.timezone.utc)
        try:
            made = False
            if options["ca_certificate"]:
                authority = _pki.Authority.from_pem(
                    options["ca_certificate"], options["ca_key"], "ca_certificate and ca_key"
                )
            else:
                authority, made = _pki.open_authority(pathlib.Path(options["pki_dir"]), options["cluster"], now)
            signed = {
                use: authority.sign(
                    request, unit=f"{_pki.ORGANIZATION} {use}", names=options["names"], days=options["days"], now=now
                )
                for use, request in options["requests"].items()
            }
        except _pki.PkiError as error:
            raise AnsibleActionFail(str(error)) from error
        return {
            "changed": True,
            "new_authority": made,
            "ca": authority.pem,
            "certificates": {use: pem for use, (pem, _end) in signed.items()},
            "not_after": min(end for _pem, end in signed.values()),
        }
