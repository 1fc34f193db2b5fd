"""Checkpoints on the Hub while a training goes on: each as one commit with the tag `step-N`, in order, then the adapter.

    with Pushes(output, "ORG/NAME", names) as pushes:
        launch(command)
    pushes.finish()

The training sets whole checkpoints aside (`kollm.train.outbox`); a thread of the command that started it sends them,
with every check of `kollm push`. What the Hub does not take stops nothing: it is said, and tried again in its turn.
"""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from kollm.core.errors import InputError, KollmError, MissingExtraError, StateError
from kollm.core.files import write_json
from kollm.core.ownership import own_files, remove_own
from kollm.core.progress import say
from kollm.hub.preparation import Names, require_licences
from kollm.hub.publish import find_target, push
from kollm.train.checkpoints import OUTBOX, SENT, last_checkpoint
from kollm.train.outbox import sent_steps, step_of, waiting

LOOK_SECONDS = 2.0
AGAIN_SECONDS = 60.0
"""Before what failed is tried again, unless a newer checkpoint comes first."""


class Pushes:
    """Sends the checkpoints of a training while a block runs.

    Args:
        output: the adapter's folder.
        repository: `ORG/NAME`.
        names: of base and dataset, as `push` takes them.
        private: make the repository private.
    """

    def __init__(self, output: Path, repository: str, names: Names, private: bool = False) -> None:
        self._output, self._repository, self._names, self._private = output, repository, names, private
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._failed_at = 0.0
        self._failed: list[int] = []

    def check(self, base: str, revision: str | None, dataset: str) -> None:
        """Refuse what would stop every push, before anything is trained.

        Args:
            base: folder or Hub name of the base.
            revision: its commit on the Hub.
            dataset: folder or Hub name of the dataset.

        Raises:
            KollmError: no token, a repository that is another's or holds something else, no licence, no matplotlib.
        """
        if find_spec("matplotlib") is None:
            raise MissingExtraError("matplotlib", "plot")
        target = find_target("adapter", self._repository, self._private)
        others = sorted(tag for tag in target.tags if tag.startswith("step-"))
        if others and not sent_steps(self._output) and last_checkpoint(self._output) is None:
            raise InputError(
                f"'{self._repository}' holds checkpoints of another training ({others[0]}) - choose another name for --push-to."
            )
        require_licences(base, revision, dataset)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is None or issubclass(kind, KollmError):  # Ctrl-C does not wait for a line that is slow
            self._thread.join()

    def finish(self) -> None:
        """Send what is left, and the adapter itself.

        Raises:
            StateError: the Hub does not take all of it; the adapter is there, and the message tells how to go on.
        """
        if not self._send():
            steps = ", ".join(str(step_of(folder)) for folder in waiting(self._output))
            raise StateError(
                f"The adapter is trained, and its checkpoints of the steps {steps} are not on the Hub (the reason stands above) - "
                "the same command sends them."
            )
        (published,) = push("adapter", self._output, self._repository, private=self._private, names=self._names)[-1:]
        say(f"push: the adapter is on the Hub ({published.repository}, tag {published.tag})")

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            steps = [step_of(folder) for folder in waiting(self._output)]
            if steps and (steps != self._failed or time.monotonic() - self._failed_at > AGAIN_SECONDS):
                self._send()

    def _send(self) -> bool:
        """Send what waits, oldest first; False where one could not be sent, and those after it were not tried."""
        for folder in waiting(self._output):
            step = step_of(folder)
            try:
                push(
                    "adapter",
                    folder,
                    self._repository,
                    private=self._private,
                    tag=f"step-{step}",
                    names=self._names,
                )
            except Exception as error:  # whatever it is, the training goes on
                reason = str(error) if isinstance(error, KollmError) else f"{type(error).__name__}: {error}"
                say(f"push: step {step} is not on the Hub yet: {' '.join(reason.split())}")
                self._failed, self._failed_at = [step_of(item) for item in waiting(self._output)], time.monotonic()
                return False
            write_json(self._output / OUTBOX / SENT, {"steps": sorted({*sent_steps(self._output), step})})
            remove_own(folder, own_files(folder) or {})
            say(f"push: step {step} is on the Hub ({self._repository}, tag step-{step})")
        return True
