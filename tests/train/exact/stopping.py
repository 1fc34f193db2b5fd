"""`python -m kollm.train` that stops before a step, STOP_AT, to be killed there; it leaves a file `stopped-RANK` beside the output."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from kollm.train.__main__ import main
from kollm.train.sft import StepTrainer

step = StepTrainer.training_step


def stop(self: Any, *arguments: Any, **named: Any) -> Any:
    if self.state.global_step == int(os.environ["STOP_AT"]):
        Path(f"stopped-{os.environ.get('RANK', '0')}").touch()
        threading.Event().wait()
    return step(self, *arguments, **named)


StepTrainer.training_step = stop  # type: ignore[method-assign]
sys.exit(main())
