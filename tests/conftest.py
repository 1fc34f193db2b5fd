"""Before any test imports torch: its threads sleep while they wait, or they starve each other on shared cores."""

import os

from hypothesis import settings

# The same examples on every run of CI, so that a submission fails for what it changed; new ones on a developer's machine.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
