"""Commands of the pages, run by bash as they stand there."""

import os
import subprocess
import sys
from pathlib import Path


def shell(directory: Path, script: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in `directory` with this environment's programs and nothing else's variables."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={"PATH": path, "HOME": str(directory), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
