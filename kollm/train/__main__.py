"""Entry of `accelerate launch -m kollm.train --recipe R --dataset D -o OUT`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kollm.core.errors import one_line
from kollm.core.processes import end_with_parent
from kollm.core.program import prepare_process
from kollm.core.progress import quiet_libraries, say

ALIKE_SECONDS = 10.0
"""How far apart processes meet an error that all of them meet. One that is alone with its error says it after that."""


def make_parser() -> argparse.ArgumentParser:
    """The arguments of one training run."""
    parser = argparse.ArgumentParser(prog="python -m kollm.train", description="Train one recipe on one dataset.")
    parser.add_argument("--recipe", required=True, help="name of a shipped recipe, or a YAML file")
    parser.add_argument("--dataset", required=True, help="dataset folder or Hub id")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--base", type=Path, help="folder of the base model, instead of the recipe's")
    parser.add_argument("--start", help="adapter that training starts from, and that preferences are held to")
    parser.add_argument("--outbox", action="store_true", help="set checkpoints aside to be published")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe's key")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; exit code 1 with one sentence for an error that a user can mend."""
    options = make_parser().parse_args(arguments)
    end_with_parent()
    prepare_process()
    quiet_libraries()
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name, by which a user may have chosen already
        # Microbatches differ in size. Blocks that cannot grow left 3 to 10 GiB of an H100 unusable, these 1.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    try:
        from kollm.recipe.load import load_recipe

        recipe = load_recipe(options.recipe, options.set)  # before torch is imported, which takes seconds
        from kollm.train.job import train_recipe

        train_recipe(
            recipe,
            options.dataset,
            options.output,
            base=options.base,
            start=options.start,
            outbox=options.outbox,
        )
    except Exception as error:
        if os.environ.get("KOLLM_DEBUG"):
            raise
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(ALIKE_SECONDS)  # the launcher ends this process when the machine's first one has said the same
        say(f"Error: {one_line(error)}")
        return 1
    except KeyboardInterrupt:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            say("Stopped. The same command resumes from the last checkpoint.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
