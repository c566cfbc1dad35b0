# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of the names in the arguments, as this HostOS resolves them: a firewall set knows only addresses."""

from __future__ import annotations

import json
import socket
import sys


def main() -> None:
    found = set()
    for name in sys.argv[1:]:
        try:
            found |= {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
        except OSError as error:
            raise SystemExit(f"HostOS address {name}: {error}. Set oscarv_migration_address to an address") from error
    sys.stdout.write(json.dumps(sorted(found)))


if __name__ == "__main__":
    main()
