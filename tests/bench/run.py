# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: every tests/bench/bench_*.py measures ours and its peer or floor in the same run.

A benchmark is a module with `rows() -> list[dict]`; a row has bar, ours, peer, ratio, goal, holds. The table goes to
the terminal, the same rows to tests/bench/results.json. Ratios decide; absolute times are recorded beside them.
`run.py NAME ...` runs some. Ends with 1 if a goal does not hold.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import platform
import sys
import time
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
COLUMNS = ("bar", "ours", "peer", "ratio", "goal", "holds")


def load(path: pathlib.Path) -> t.Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(rows: list[dict[str, t.Any]]) -> str:
    texts = [COLUMNS, *[tuple(shown(row[column]) for column in COLUMNS) for row in rows]]
    widths = [max(len(text[index]) for text in texts) for index in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True)) for text in texts)


def shown(value: t.Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(names: list[str]) -> int:
    rows: list[dict[str, t.Any]] = []
    for path in sorted(HERE.glob("bench_*.py")):
        name = path.stem.removeprefix("bench_")
        if names and name not in names:
            continue
        print(f"--- {name}", flush=True)
        rows += [{"benchmark": name, **row} for row in load(path).rows()]
    print(table(rows))
    kept = [] if not names or not RESULTS.exists() else json.loads(RESULTS.read_text())["rows"]
    rows = [row for row in kept if row["benchmark"] not in {r["benchmark"] for r in rows}] + rows
    machine = {"python": platform.python_version(), "kernel": platform.release(), "machine": platform.machine()}
    result = {"measured": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine, "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
