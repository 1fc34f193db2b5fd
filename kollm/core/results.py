"""The files that commands leave and that come back in: manifest.json, run.json, training.json, metrics.json, report.json ...

Anybody may have written what lies under these names. What kollm reads of them is checked here, once; other keys pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from kollm.core.files import read_object
from kollm.core.reading import validated

Number = float | None
PartFile = Annotated[str, StringConstraints(pattern=r"^[^./\\][^/\\]*/[^./\\][^/\\]*\.parquet$")]
"""A file of a dataset folder: `CONFIG/SPLIT-NUMBER.parquet`, never outside of it."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


# --- a dataset --------------------------------------------------------------------------------------------------------


class _DatasetSource(_Shape):
    name: str
    rows: int = 0
    revision: str = ""


class _Translator(_Shape):
    name: str = ""
    terms: str = ""


class _DatasetSettings(_Shape):
    keep_english: bool = False
    against: list[str] = []


class _Manifest(_Shape):
    kollm: str = ""
    files: dict[PartFile, str]
    card: str = ""
    sources: list[_DatasetSource | str] = []
    translator: _Translator = _Translator()
    settings: _DatasetSettings = _DatasetSettings()
    rows: dict[str, int] = {}
    dropped: dict[str, int] = {}
    mended: dict[str, int] = {}
    flags: dict[str, int | bool] = {}
    leaks: list[str] = []
    characters: int = 0


def read_manifest_file(path: Path) -> dict[str, Any]:
    """manifest.json of a dataset folder.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    return _read(path, _Manifest, "build the dataset again, or name another folder")


# --- a run ------------------------------------------------------------------------------------------------------------


class _StageResult(_Shape):
    location: str = ""
    summary: str | None = None
    fingerprint: str = ""


class _Stage(_Shape):
    status: str
    inputs: dict[str, Any] = {}
    seconds: float | None = 0.0
    writes: list[str] = []
    result: _StageResult | None = None


class _WholeResult(_StageResult):
    location: str
    summary: str


class _WholeStage(_Stage):
    inputs: dict[str, Any]
    seconds: float = 0.0
    result: _WholeResult | None = None


class _RunRecipe(_Shape):
    name: str = ""
    prompt: str = "kullm-2023"
    origins: dict[str, str] | None = None


class _Run(_Shape):
    stages: dict[str, _Stage] = {}
    recipe: _RunRecipe | None = None
    kollm: str = ""
    toy: bool = False


class _WholeRun(_Run):
    stages: dict[str, _WholeStage] = {}  # type: ignore[assignment]


def read_run_file(path: Path, whole: bool = False) -> dict[str, Any]:
    """run.json of a work folder.

    Args:
        path: the file.
        whole: whether a run is to go on from it.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    run = _read(path, _WholeRun if whole else _Run, "use another work folder")
    return {"stages": {}, **run}


# --- a training -------------------------------------------------------------------------------------------------------


class _TrainedBase(_Shape):
    model: str
    revision: str | None = None


class _TrainedRecipe(_Shape):
    base: _TrainedBase
    enable_thinking: bool | None = None


class _PromptExample(_Shape):
    question: str
    text: str


class _Training(_Shape):
    recipe: _TrainedRecipe | None = None
    dataset: str = ""
    prompt: str | None = None
    prompt_sha256: str = ""
    location: str = ""
    base_commit: str | None = None
    base_content: str | None = None
    prompt_example: _PromptExample | None = None
    ends: list[int] = []
    versions: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    files: dict[str, str] = {}


class _WholeTraining(_Training):
    recipe: _TrainedRecipe
    dataset: str
    prompt: str
    prompt_sha256: str
    location: str


def read_training_file(path: Path, whole: bool = False) -> dict[str, Any]:
    """training.json of an adapter or a merged model.

    Args:
        path: the file.
        whole: whether it must say on what, with which prompt and on which base was trained.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    return _read(path, _WholeTraining if whole else _Training, "train it again, or name another folder")


class _HistoryEntry(_Shape):
    step: float
    loss: Number = None
    eval_loss: Number = None


class _HeldOut(_Shape):
    rows: int = 0
    tokens: int = 0
    before: Number = None
    after: Number = None


class _Evaluation(_Shape):
    step: int
    loss: float


class _Sample(_Shape):
    step: int
    id: str
    question: str = ""
    response: str


class _PartShare(_Shape):
    rows: int
    tokens: int
    supervised: int


class _Metrics(_Shape):
    shares: dict[str, _PartShare] = {}
    evaluations: list[_Evaluation] = []
    samples: list[_Sample] = []
    history: list[_HistoryEntry] = []
    heldout: _HeldOut = _HeldOut()
    throughput: dict[str, Number] = {}
    model: dict[str, Any] = {}
    seconds: float = 0.0
    steps: int = 0


def read_metrics_file(path: Path) -> dict[str, Any]:
    """metrics.json of a training.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    return _read(path, _Metrics, "train it again, or name another folder")


# --- a report ---------------------------------------------------------------------------------------------------------


class _AxisScores(_Shape):
    mean: Number
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    n: int
    n_scored: int


class _SystemScores(_Shape):
    system: str
    axes: dict[str, _AxisScores]


class _Judging(_Shape):
    rubric: str
    rubric_sha256: str
    mode: str
    model: str | None
    systems: list[_SystemScores]


class _Flag(_Shape):
    n: int


class _Answers(_Shape):
    system: str
    n: int
    flags: dict[str, _Flag]


class _Report(_Shape):
    judgings: list[_Judging]
    answers: list[_Answers]


def read_report_file(path: Path) -> dict[str, Any]:
    """report.json, as `kollm report` writes it.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    return _read(path, _Report, "write it again with: kollm report DIR")


# --- judges over time -------------------------------------------------------------------------------------------------


class _JudgingName(_Shape):
    rubric: str
    rubric_sha256: str
    mode: str
    model: str


class _DriftAxis(_Shape):
    axis: str
    conclusion: str


class _Drift(_Shape):
    judging: _JudgingName
    axes: list[_DriftAxis]


def read_drift_file(path: Path) -> dict[str, Any]:
    """drift.json, as `kollm verdicts drift` writes it.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    return _read(path, _Drift, "write it again with: kollm verdicts drift SEALED -o FOLDER")


class _BridgedMean(_Shape):
    axis: str
    first: str
    bridged: float
    ci95: list[float]
    n: int


class _Bridge(_Shape):
    old: _JudgingName
    new: _JudgingName
    means: list[_BridgedMean]


def read_bridge_file(path: Path) -> dict[str, Any]:
    """bridge.json, as `kollm verdicts bridge` writes it.

    Raises:
        InputError: it is malformed, or something else of that name.
    """
    return _read(path, _Bridge, "write it again with: kollm verdicts bridge ... -o FOLDER")


def _read(path: Path, shape: type[_Shape], what_to_do: str) -> dict[str, Any]:
    values = read_object(path)
    validated(shape, values, path, what_to_do)
    return values
