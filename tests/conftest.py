"""Before any test imports torch: its threads sleep while they wait, or they starve each other on shared cores."""

import os
import signal

from hypothesis import settings

# The same examples on every run of CI, so that a submission fails for what it changed; new ones on a developer's machine.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that starts a command in the background has it ignore Ctrl-C, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
