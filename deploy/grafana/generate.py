"""Writes the dashboards beside this file: `python3 deploy/grafana/generate.py`; `--check` only says which are not as they
would be written, with exit code 1. Needs nothing but Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import exporting
import integration
import overview

HERE = Path(__file__).parent


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = 0
    for module in (overview, integration, exporting):
        dashboard = module.made()
        path = HERE / f"{dashboard['uid']}.json"
        text = json.dumps(dashboard, indent=2) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            sys.stdout.write(f"{path.name} is not what the code beside it makes: run {Path(__file__).name}\n")
            stale = 1
        elif not check:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
