"""What would stop a run, found before its first stage: nothing is spent, downloaded whole or trained to find it.

Every stage that is to be done is looked at, and all faults come in one list. What only the Hub can tell is asked of it
within some seconds; where it cannot be reached, that is a fault of a run and a remark of `kollm recipe check`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kollm.core.counting import counted
from kollm.core.errors import InputError, KollmError, MissingExtraError, RecipeError, ServiceError
from kollm.core.files import read_json, require_file
from kollm.core.results import read_run_file
from kollm.dataset.folder import read_records
from kollm.dataset.given import is_own
from kollm.quality.filters import FILTERS
from kollm.recipe.bases import BASES, facts_from_config
from kollm.recipe.engines import ENGINES
from kollm.recipe.load import preferring
from kollm.recipe.prompt import PromptTemplate
from kollm.recipe.schema import Judge, Recipe, Source
from kollm.run.destinations import destinations
from kollm.run.stage import RunOptions
from kollm.run.stages import stages_of
from kollm.services.ledger import default_path
from kollm.services.repository import RepoType, find_on_hub
from kollm.sources import SAMPLE, find_source, is_local, sample_file
from kollm.sources.own.places import find_files
from kollm.train.check import check_recipe, config_file
from kollm.train.plan import trainable_parameters
from kollm.translate.engines import check_engine

HUB_SECONDS = 6.0
"""How long all questions to the Hub may take together."""
LEAST_ROOM = 1 << 30
"""Bytes that a run's files and checkpoints take at least, beside a base's weights."""


@dataclass(slots=True)
class Findings:
    """What was found.

    Attributes:
        faults: what would stop the run, a sentence each.
        unknown: what could not be found out, since the Hub cannot be reached.
    """

    faults: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @contextmanager
    def of(self, what: str = "") -> Iterator[None]:
        """Take in the fault of one check."""
        try:
            yield
        except ServiceError as error:
            self._add(self.unknown, what, error)
        except KollmError as error:
            self._add(self.faults, what, error)

    def _add(self, where: list[str], what: str, error: KollmError) -> None:
        sentence = f"{what}: {error}" if what else str(error)
        if sentence not in where:
            where.append(sentence)


def require_runnable(recipe: Recipe, options: RunOptions, restart: str | None = None) -> None:
    """Refuse a run that would stop later.

    Raises:
        RecipeError: everything that would stop it, in one list.
    """
    found = check_run(recipe, options, restart)
    faults = found.faults + found.unknown
    if len(faults) == 1:
        raise RecipeError(faults[0])
    if faults:
        raise RecipeError(
            f"{counted(len(faults), 'thing')} would stop this run:" + "".join(f"\n  - {fault}" for fault in faults)
        )


def check_run(recipe: Recipe, options: RunOptions | None = None, restart: str | None = None) -> Findings:
    """Look at everything that can be known of the stages that are to be done.

    Args:
        recipe: the recipe.
        options: of the run; None for the recipe by itself, whose keys of accounts and disk are not looked at.
        restart: the stage that is to begin again.
    """
    found, hub = Findings(), _Hub()
    todo = _to_do(recipe, options, restart, found)
    data, given = recipe.data, (options.dataset if options else None) or recipe.data.dataset
    tasks = options.evaluation if options else None
    with found.of():
        list(destinations(recipe, given is not None or data.is_given))
    if "dataset" in todo:
        _check_dataset(recipe, given, options is not None, found, hub)
    if "evaluation" in todo:
        if tasks is not None:
            hub.readable(found, tasks)
        elif data.evaluation is not None:
            _check_source(recipe, data.evaluation, found, hub)
        elif options is not None:
            with found.of():
                raise RecipeError(
                    f"Recipe {recipe.name}: data.evaluation is not set - name a source there, or give --eval DIR."
                )
    if todo & {"base", "adapter", "answers"}:
        _check_training(recipe, options, found, hub)
    if recipe.preference is not None:
        _check_preference(recipe, todo, found)
    for settings in _judges(recipe, todo):
        _check_judge(recipe, settings, options, found, hub)
    if options is not None and todo:
        _check_disk(recipe, options, found)
    hub.ask(found)
    return found


def _to_do(recipe: Recipe, options: RunOptions | None, restart: str | None, found: Findings) -> set[str]:
    names = [stage.name for stage in stages_of(recipe)]
    if restart is not None and restart not in names:
        with found.of():
            raise InputError(f"There is no stage '{restart}' - use one of {', '.join(names)}.")
        restart = None
    journal: dict[str, Any] = {}
    if options is not None and (options.folder / "run.json").is_file():
        with found.of():
            journal = read_run_file(options.folder / "run.json").get("stages", {})
    begin = names.index(restart) if restart else len(names)
    return {name for place, name in enumerate(names) if place >= begin or journal.get(name, {}).get("status") != "done"}


class _Hub:
    """Questions to the Hub, asked at once and together."""

    def __init__(self) -> None:
        self._questions: dict[tuple[str, RepoType, str | None], None] = {}

    def exists(self, name: str, kind: RepoType, revision: str | None = None) -> None:
        """Find out whether a repository is there."""
        self._questions.setdefault((name, kind, revision), None)

    def readable(self, found: Findings, dataset: str, *, own: bool = False) -> None:
        """Find out whether a dataset can be read: here at once, on the Hub whether it is there; rows of one's own are opened."""
        with found.of():
            if Path(dataset).exists() or not _is_name(dataset):
                if own and is_own(dataset):
                    find_files(dataset)
                else:
                    next(iter(read_records(dataset)))
            else:
                self.exists(dataset, "dataset")

    def ask(self, found: Findings) -> None:
        if not self._questions:
            return
        pool = ThreadPoolExecutor(len(self._questions))
        asked = [pool.submit(find_on_hub, *question) for question in self._questions]
        for future, (name, kind, _) in zip(asked, self._questions, strict=True):
            with found.of():
                try:
                    future.result(HUB_SECONDS)
                except OutOfTime as error:
                    raise ServiceError(f"The Hub does not say in time whether the {kind} '{name}' is there.") from error
        pool.shutdown(wait=False, cancel_futures=True)


def _is_name(text: str) -> bool:
    return text.partition("@")[0].count("/") == 1 and not text.startswith((".", "/", "~"))


def _check_dataset(recipe: Recipe, given: str | None, running: bool, found: Findings, hub: _Hub) -> None:
    data = recipe.data
    if given is not None:
        return hub.readable(found, given)
    if data.datasets:
        for item in data.datasets:
            hub.readable(found, item.dataset, own=True)
        return None
    with found.of():
        if not data.sources and running:
            raise RecipeError(
                f"Recipe {recipe.name}: data.sources is empty - name sources, or give a dataset with --dataset."
            )
        names = [source.name for source in data.sources]
        if len(set(names)) < len(names):
            raise RecipeError(f"Recipe {recipe.name}: data.sources names a source twice - name each once.")
        if data.filters not in FILTERS:
            raise RecipeError(
                f"Recipe {recipe.name}: there are no filters '{data.filters}' - use {', '.join(FILTERS)}."
            )
    for source in data.sources:
        _check_source(recipe, source, found, hub)
    if running and _is_translated(recipe, data.sources):
        with found.of():
            check_engine(data.translator, data.translator_model)


def _is_translated(recipe: Recipe, sources: Collection[Source]) -> bool:
    for source in sources:
        try:
            if find_source(source.name).lang == "en" and recipe.data.translator in ENGINES:
                return True
        except InputError:
            continue  # said where the source is checked
    return False


def _check_source(recipe: Recipe, source: Source, found: Findings, hub: _Hub) -> None:
    with found.of(f"Recipe {recipe.name}"):
        known = find_source(source.name)
        if source.input == SAMPLE:
            sample_file(source.name, "en")
        elif source.input is not None and is_local(source.input):
            if not Path(source.input).exists():
                raise InputError(
                    f"The file '{source.input}' of the source '{source.name}' does not exist - check the path."
                )
        elif source.input is None and not known.hub_id:
            raise InputError(f"{known.name} is not on the Hub - {known.terms}")
        else:
            hub.exists(source.input or known.hub_id, "dataset", source.revision or known.revision)
    with found.of(f"Recipe {recipe.name}"):
        if source.memory is not None and source.memory != SAMPLE:
            require_file(Path(source.memory), f"The Korean rows of '{source.name}'")
        elif (
            recipe.data.translator == "memory"
            and source.memory is None
            and source.input != SAMPLE
            and find_source(source.name).lang == "en"
        ):
            raise InputError(
                f"The memory translator needs the Korean rows of '{source.name}' - name their file as its `memory`."
            )


def _check_training(recipe: Recipe, options: RunOptions | None, found: Findings, hub: _Hub) -> None:
    with found.of():
        check_recipe(recipe)
    if options is not None and options.config is not None:
        with found.of():
            config_file(options.config)
            check_recipe(recipe, options.config)
    with found.of():
        if options is not None and find_spec("torch") is None:
            raise MissingExtraError("torch", "train")
    with found.of():
        if recipe.base.new_tokens is not None:
            require_file(Path(recipe.base.new_tokens), "The file of new tokens")
    if recipe.base.is_toy:
        with found.of():
            PromptTemplate.load(recipe.prompt)
        return
    with found.of(f"Recipe {recipe.name}: base.model"):
        folder = _base_folder(recipe, hub)
        if folder is None:
            return _check_prompt_name(recipe, found)
        if recipe.base.model not in BASES and recipe.adapter.method in ("lora", "dora", "ia3"):
            _check_targets(recipe, read_json(folder / "config.json"))
        if options is not None:
            _check_prompt(recipe, folder, found)


def _base_folder(recipe: Recipe, hub: _Hub) -> Path | None:
    """Where the base's configuration is on this machine; None where it is still on the Hub, which is asked then."""
    name = recipe.base.model
    if Path(name).is_dir():
        return require_file(Path(name) / "config.json", "The base's configuration").parent
    if not _is_name(name):
        raise InputError(
            f"There is no folder '{name}', and it is no name on the Hub - check the path, or write ORG/NAME."
        )
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(name, "config.json", revision=recipe.base.revision)
    if isinstance(kept, str):
        return Path(kept).parent
    hub.exists(name, "model", recipe.base.revision)
    return None


def _check_targets(recipe: Recipe, config: dict[str, Any]) -> None:
    try:
        facts = facts_from_config(recipe.base.model, config)
    except InputError:
        return  # an architecture whose modules only its weights tell
    trainable_parameters(facts, recipe.adapter)


def _check_prompt_name(recipe: Recipe, found: Findings) -> None:
    with found.of():
        if recipe.prompt.endswith(".jinja"):
            require_file(Path(recipe.prompt), "The prompt template")
        elif recipe.prompt not in ("auto", "chat"):
            PromptTemplate.load(recipe.prompt)


def _check_prompt(recipe: Recipe, folder: Path, found: Findings) -> None:
    """Load the base's tokenizer, and the prompt on it."""
    if find_spec("transformers") is None:
        return
    from kollm.services.local_model import find_whole_model, load_config, load_tokenizer
    from kollm.train.prompts import make_encoder

    with found.of(f"Recipe {recipe.name}"):
        model = find_whole_model(folder)
        load_config(model)
        make_encoder(recipe.prompt, load_tokenizer(model), enable_thinking=recipe.enable_thinking)


def _judges(recipe: Recipe, todo: set[str]) -> list[Judge]:
    """Who judges in the stages that are to be done, each once."""
    step = recipe.preference
    found = [recipe.judge] if todo & {"verdicts", "compared"} else []
    if step is not None and "sample_verdicts" in todo and (step.judge or recipe.judge) not in found:
        found.append(step.judge or recipe.judge)
    return found


def _check_preference(recipe: Recipe, todo: set[str], found: Findings) -> None:
    """What would stop the stages of preferences."""
    with found.of(f"Recipe {recipe.name}"):
        if "pairs" in todo and recipe.data.leaks == "keep":
            raise InputError(
                "data.leaks is keep, and pairs that hold an evaluation task are refused - let them be dropped: data.leaks=drop."
            )
    with found.of(f"Recipe {recipe.name}: preference"):
        if todo & {"samples", "preferred"} and recipe.adapter.method == "full":
            raise InputError(
                "adapter.method is full, and the adapter is the start and the reference of training on pairs - use lora or dora."
            )
        if "preferred" in todo:
            check_recipe(preferring(recipe))


def _check_judge(recipe: Recipe, settings: Judge, options: RunOptions | None, found: Findings, hub: _Hub) -> None:
    from kollm.judge.rubric_file import load_rubric

    rubric = None
    with found.of(f"Recipe {recipe.name}: judge.rubric"):
        rubric = load_rubric(settings.rubric)
    if settings.engine == "local":
        with found.of(f"Recipe {recipe.name}: judge.model"):
            if settings.model is not None and not Path(settings.model).is_dir():
                if not _is_name(settings.model):
                    raise InputError(f"There is no folder '{settings.model}', and it is no name on the Hub.")
                hub.exists(settings.model, "model")
        return
    from kollm.judge.make import JudgeOptions, make_judge

    if settings.engine == "rules":
        with found.of(f"Recipe {recipe.name}: judge"):
            if rubric is not None:
                make_judge(rubric, JudgeOptions("rules"))
        return
    from kollm.services.endpoint import chat_endpoint
    from kollm.services.ledger import Ledger

    with (
        found.of(f"Recipe {recipe.name}: judge"),
        TemporaryDirectory() as folder,
        Ledger.open(Path(folder) / "ledger.sqlite3") as ledger,
    ):
        if rubric is not None:
            judge = JudgeOptions(
                model=settings.model,
                mode=settings.mode,
                samples=settings.samples,
                base_url=settings.base_url,
                max_cost=options.max_cost if options else None,
            )
            make_judge(rubric, judge, ledger=ledger)
    if options is not None:
        with found.of():
            _ = chat_endpoint(settings.base_url).key


def _check_disk(recipe: Recipe, options: RunOptions, found: Findings) -> None:
    """Write access, and room for what the run writes."""
    with found.of():
        there = _existing(options.folder)
        _require_writable(there, options.folder)
        facts = BASES.get(recipe.base.model)
        full = facts is not None and recipe.adapter.method == "full"
        needed = (
            LEAST_ROOM // 10 if recipe.base.is_toy else LEAST_ROOM + (2 * facts.parameters if facts and full else 0)
        )
        free = shutil.disk_usage(there).free
        if free < needed:
            raise InputError(
                f"The disk of '{options.folder}' has {free / 1e9:.1f} GB free, and the run writes {needed / 1e9:.1f} GB or "
                "more - free some, or choose another folder."
            )
    engine = ENGINES.get(recipe.data.translator)
    paid = recipe.judge.engine == "openai" or (engine is not None and bool(engine.asked))
    with found.of():
        if paid:
            _require_writable(_existing(default_path().parent), default_path())


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _require_writable(there: Path, wanted: Path) -> None:
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"'{wanted}' cannot be written - choose another folder or change its permissions.")
