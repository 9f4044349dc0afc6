"""Where tests find what is not a test: the repository, its configs, the golden vectors."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
VECTORS = ROOT / "tests" / "golden"
