"""Before any test imports torch: its threads sleep while they wait, or they starve each other on shared cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
