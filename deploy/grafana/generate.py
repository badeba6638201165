"""Writes dashboards/*.json: `python -m deploy.grafana.generate`, in the root of the repository.

What is in those files is made here and nowhere else: tests/test_dashboards.py compares them byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from deploy.grafana import exporter_itself, integration, overview

FOLDER: Final = Path(__file__).parent / "dashboards"


def files() -> dict[str, str]:
    """Each file's name → what it holds."""
    made = [module.dashboard() for module in (overview, integration, exporter_itself)]
    return {f"{each.uid}.json": json.dumps(each.json(), indent=2, ensure_ascii=False) + "\n" for each in made}


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
