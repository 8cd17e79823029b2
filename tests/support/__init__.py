"""What tests share: both ends of the wire, real programs, and where things are."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "swproxy"
DATA = ROOT / "tests" / "data"
