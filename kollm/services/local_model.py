"""The one loader of models from a folder or the Hub: weights from safetensors alone, and no code of a repository's.

    base = find_model("ORG/NAME@REVISION")
    network, tokenizer = load_network(base, dtype=inference_dtype("cpu")), load_tokenizer(base)

A model whose repository brings code of its own is refused in one sentence, and nobody is asked at the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kollm.core.errors import InputError, KollmError
from kollm.core.files import read_object
from kollm.core.patterns import check_pattern
from kollm.core.rendering import ForeignTemplate
from kollm.services.repository import locate, parse_reference, pull
from kollm.services.sizes import check_adapter_size, check_bytes, check_config_size, check_model_size
from kollm.services.weights import ADAPTER_CONFIG, check_weights, content_hash

Family = Literal["causal", "sequence-to-sequence"]

FOREIGN_CODE = re.compile(r"trust_remote_code|custom code", re.IGNORECASE)
"""What transformers says where a model needs code of its repository."""
OUT_OF_MEMORY = ("OutOfMemoryError", "AcceleratorError")
"""Errors of torch's that a smaller batch or another device mends, and no other file."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model's or an adapter's files on this machine, and what they are called.

    Attributes:
        folder: where they are.
        name: what results call them: the folder as it was given, or `ORG/NAME@COMMIT`.
        repository: `ORG/NAME`; None for a folder.
        commit: of the repository; None for a folder.
    """

    folder: Path
    name: str
    repository: str | None = None
    commit: str | None = None

    @property
    def reference(self) -> str:
        """What an adapter writes down as its base: `ORG/NAME`, or a folder's whole path, which is no name on the Hub."""
        return self.repository or str(self.folder.resolve())

    @property
    def is_adapter(self) -> bool:
        return (self.folder / ADAPTER_CONFIG).is_file()

    def complete(self) -> LocalModel:
        """The same, with its weights downloaded too."""
        if self.repository is not None:
            pull(f"{self.repository}@{self.commit}", "model")
        return self

    def content(self) -> str:
        """What identifies everything that is loaded: the repository's commit, or a hash over the folder's files."""
        return content_hash(self.folder) if self.commit is None else self.name


def find_model(folder_or_name: str | Path, revision: str | None = None) -> LocalModel:
    """A folder, or a repository's small files; its weights are downloaded when they are loaded.

    Raises:
        InputError: it is neither a folder nor a repository that this token may read.
        ServiceError: the Hub cannot be reached and the cache does not hold it.
    """
    found = locate(folder_or_name, "model", revision, weights=False)
    if Path(folder_or_name).is_dir():
        return LocalModel(found.folder, found.name)
    reference = parse_reference(found.name)
    return LocalModel(found.folder, found.name, reference.repository, reference.revision)


def find_whole_model(folder_or_name: str | Path, revision: str | None = None) -> LocalModel:
    """As `find_model`, for what must be no adapter.

    Raises:
        InputError: it is one, too.
    """
    model = find_model(folder_or_name, revision)
    if model.is_adapter:
        raise InputError(f"The model '{model.name}' is an adapter - name the whole model under it.")
    return model


def load_config(model: LocalModel) -> Any:
    """A model's configuration, before any weight is loaded.

    Raises:
        InputError: there is none that can be read, or it asks for code of a repository's.
    """
    from transformers import AutoConfig

    _check_config(model)
    with readable(model):
        return AutoConfig.from_pretrained(model.folder, trust_remote_code=False)


def load_tokenizer(model: LocalModel, **options: Any) -> Any:
    """A model's or an adapter's tokenizer; the options are those of transformers.

    Raises:
        InputError: there is none that can be read, or it asks for code of a repository's.
    """
    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    if not any((model.folder / name).is_file() for name in ("config.json", "tokenizer_config.json", "tokenizer.json")):
        raise InputError(
            f"The folder '{model.name}' holds no model and no adapter (no config.json, no tokenizer) - name one that does."
        )
    check_bytes(model.folder)  # transformers reads the configuration too
    chat_template_utils._compile_jinja_template = ForeignTemplate  # every template of a tokenizer is somebody's program
    with readable(model):
        tokenizer = AutoTokenizer.from_pretrained(model.folder, trust_remote_code=False, **options)
        tokenizer.decode(tokenizer("kollm 가나다")["input_ids"])  # some faults of its files show in use alone
        return tokenizer


def load_network(model: LocalModel, dtype: Any, family: Family = "causal", **options: Any) -> Any:
    """A whole model's weights, on the processor unless the options say otherwise.

    Args:
        model: the model.
        dtype: torch's type of the weights; `auto` for the type in which they are stored.
        family: what kind of language model it must be.
        options: further ones of transformers, such as `quantization_config`.

    Raises:
        InputError: no weights, pickled ones, another family, an adapter, or files that cannot be read.
    """
    import transformers

    auto = "AutoModelForCausalLM" if family == "causal" else "AutoModelForSeq2SeqLM"
    if model.is_adapter:
        raise InputError(f"The model '{model.name}' is an adapter - name the whole model under it.")
    _check_config(model)
    check_weights(model.complete().folder, model.name, auto)
    check_model_size(model.folder, model.name)
    with readable(model, family):
        network = getattr(transformers, auto).from_pretrained(
            model.folder, trust_remote_code=False, use_safetensors=True, dtype=dtype, **options
        )
    network.config._name_or_path = network.name_or_path = model.reference  # what PEFT writes down as the base
    return network


def load_adapter(network: Any, adapter: LocalModel, *, trainable: bool = False) -> Any:
    """A network with an adapter's weights on it, in the form of PEFT's model, for answering or for training on.

    Raises:
        InputError: no weights, pickled ones, or an adapter that does not fit or that loads more than itself.
    """
    from peft import PeftModel

    _check_adapter(adapter)
    check_weights(adapter.complete().folder, adapter.name)
    check_adapter_size(adapter.folder, adapter.name)
    try:
        with _library_errors():
            return PeftModel.from_pretrained(network, str(adapter.folder), is_trainable=trainable)
    except _UnreadableError as error:
        raise InputError(
            f"The adapter '{adapter.name}' does not fit the model '{network.name_or_path}' ({error}) - name the model that "
            "it was trained on: --base MODEL."
        ) from error


def inference_dtype(device: str, wanted: str = "bfloat16") -> Any:
    """torch's type of a model's weights where it answers, judges or translates.

    On a processor it is float32: half precision is slow there, and rounds. On a GPU it is what was asked for; bfloat16
    by default, since float16 overflows in the attention of GPT-NeoX.

    Args:
        device: torch's name of the device's type, e.g. `cpu` or `cuda`.
        wanted: torch's name of a type.
    """
    import torch

    return torch.float32 if device == "cpu" else getattr(torch, wanted)


@contextmanager
def readable(model: LocalModel, family: Family | None = None) -> Iterator[None]:
    """Turn what transformers raises over a model's files, which is of every kind, into one sentence.

    Raises:
        InputError: the files cannot be read, or ask for code of a repository's.
    """
    try:
        with _library_errors():
            yield
    except _UnreadableError as error:
        if FOREIGN_CODE.search(str(error.__cause__)):
            raise InputError(
                f"The model '{model.name}' needs code from a repository, and kollm never runs such code - use a model "
                "whose architecture and tokenizer transformers has."
            ) from error
        what = "loaded" if family is None else f"loaded as a {family} language model"
        raise InputError(f"The model '{model.name}' cannot be {what} ({error}) - check its name and files.") from error


class _UnreadableError(Exception):
    """What a library raised over somebody's files, in one line."""


@contextmanager
def _library_errors() -> Iterator[None]:
    """Everything that a library raises over files is about the files; what is about memory goes on its way."""
    try:
        yield
    except (KollmError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # tokenizers panics with an exception that is no Exception
        if type(error).__name__ in OUT_OF_MEMORY:
            raise
        raise _UnreadableError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _check_config(model: LocalModel) -> None:
    """Refuse a configuration that names an attention or another part to be fetched as code from a repository.

    Raises:
        InputError: it does, or there is no configuration.
    """
    path = model.folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"The model '{model.name}' cannot be loaded (it has no config.json) - check its name and files."
        )
    check_config_size(model.folder, model.name)
    for key, value in _leaves(read_object(path)):
        if "implementation" in key and isinstance(value, str) and "/" in value:
            raise InputError(
                f"The model '{model.name}' asks in its config.json for the code '{value[:80]}' ({key}), and kollm never runs "
                "a repository's code - remove that line, or use another model."
            )


def _leaves(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and depth < 8:
        for name, inner in value.items():
            yield from _leaves(inner, str(name), depth + 1)
    else:
        yield key, value


def _check_adapter(adapter: LocalModel) -> None:
    """Refuse an adapter whose configuration makes PEFT import a module or load other adapters.

    Raises:
        InputError: it is such an adapter, or its configuration is none.
    """
    config = adapter_config(adapter.folder)
    if config.get("megatron_config"):
        raise InputError(
            f"The adapter '{adapter.name}' names a module to import (megatron_core), which kollm never does - use another."
        )
    if config.get("peft_type") == "XLORA":
        raise InputError(
            f"The adapter '{adapter.name}' loads further adapters from where it likes (X-LoRA), which kollm never does - "
            "use a single adapter."
        )
    _check_patterns(config, adapter.name)


def _check_patterns(config: Mapping[str, Any], name: str) -> None:
    """Refuse regular expressions that PEFT would match for ever: it takes a text where others have a list, and keys.

    Raises:
        InputError: there is one.
    """
    for key in ("target_modules", "exclude_modules", "layers_pattern", "target_parameters", "modules_to_save"):
        if isinstance(config.get(key), str):
            check_pattern(config[key], f"{key} of the adapter '{name}'")
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(key) or () if isinstance(config.get(key), Mapping) else ():
            check_pattern(pattern, f"{key} of the adapter '{name}'")


def adapter_config(folder: Path) -> dict[str, Any]:
    """PEFT's configuration of an adapter.

    Raises:
        InputError: there is none, or it holds no keys and values.
    """
    check_bytes(folder)
    config = read_object(folder / ADAPTER_CONFIG)
    if not isinstance(config.get("peft_type"), str):
        raise InputError(f"'{folder / ADAPTER_CONFIG}' is no configuration of an adapter - train it again.")
    return config
