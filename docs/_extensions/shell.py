"""A block of commands that is run when the pages are built, and shows what the commands printed.

Each line of a `{shell}` block is one command. It runs in a scratch folder from which a reader's first study can be
seen: the sweeps of the repository, and the committed quickstart as `study/report`. A command that fails is a warning,
and warnings are errors. The option `:lines:` shows only so many lines of each output.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
SEEN = {"experiments": "experiments", "reports": "reports", "study/report": "reports/quickstart"}
"""Paths of the scratch folder, and what they are in the repository."""
TIMEOUT_SECONDS = 300
WIDTH = "118"
"""Columns of the terminal that commands see."""


def desk(outdir: str) -> Path:
    """Return the scratch folder, made when it is first asked for."""
    folder = Path(outdir).parent / "docs-desk"
    for path, target in SEEN.items():
        link = folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(ROOT / target)
    return folder


class Shell(SphinxDirective):
    """```{shell}: commands and what they print."""

    has_content = True
    option_spec: ClassVar = {"lines": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        """Run the commands and return them with their output."""
        here = Path(sys.executable).parent
        environment = os.environ | {"PATH": f"{here}:{os.environ['PATH']}", "COLUMNS": WIDTH}
        found: list[nodes.Node] = []
        for command in "\n".join(self.content).replace("\\\n", " ").splitlines():
            told = subprocess.run(
                command,
                shell=True,
                cwd=desk(self.env.app.outdir),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
            )
            if told.returncode:
                raise self.error(f"{command}\n{told.stderr}")
            lines = told.stdout.rstrip().splitlines()
            most = self.options.get("lines", len(lines))
            output = "\n".join(lines[:most] + ["..."] * (len(lines) > most))
            found.append(nodes.literal_block(command, command, language="sh"))
            if output:
                found.append(nodes.literal_block(output, output, language="text", classes=["output"]))
        return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of the block."""
    app.add_directive("shell", Shell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
