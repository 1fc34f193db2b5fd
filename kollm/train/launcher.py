"""accelerate's launcher without its own traceback under a training that has said what is wrong.

python -m kollm.train.launcher OPTIONS -m kollm.train ARGUMENTS
"""

from __future__ import annotations

import logging
import subprocess
import sys

from accelerate.commands.launch import main as launch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> int:
    """Launch what the command line says; gives the exit code of the process that failed first, 128 + n for signal n."""
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        launch()
    except ChildFailedError as error:
        return _shell_code(error.get_first_failure()[1].exitcode)
    except subprocess.CalledProcessError as error:
        return _shell_code(error.returncode)
    return 0


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
