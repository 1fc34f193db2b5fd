"""Tiny bases made on the spot: a tokenizer trained on the texts at hand, a model of a named architecture with random
weights, and a short pre-training on plain text, so that an adapter has something to adapt.

They make the demo, `--smoke` and the tests run without a network or a GPU; their answers mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from kollm.core.errors import InputError, RecipeError
from kollm.core.ownership import Replacement, list_files, own_files, require_own, write_sealed
from kollm.core.progress import say
from kollm.core.records import Record
from kollm.judge import load_rubric
from kollm.recipe.prompt import EOS_TOKEN, PromptTemplate
from kollm.recipe.schema import TOY_PREFIX, Recipe, ToyBase
from kollm.train.shapes import small_config

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template of a toy that has one."""
PAD_TOKEN = "<|padding|>"
MARKER = "toy.json"
"""Written last: a folder that has it is whole."""


class Wording(NamedTuple):
    """What a toy's tokenizer knows beside the text of the pre-training.

    Attributes:
        texts: more text that it alone should know well (prompt template, rubric).
        chat: whether it has a chat template.
    """

    texts: Sequence[str] = ()
    chat: bool = False


NO_WORDING = Wording()


def make_base(
    architecture: str,
    spec: ToyBase,
    texts: Iterable[str],
    output: Path,
    *,
    wording: Wording = NO_WORDING,
    config: Any = None,
) -> None:
    """Make a tiny base model; the same input gives the same weights.

    Args:
        architecture: transformers' model type: one of `ARCHITECTURES`.
        spec: shape and length of the pre-training.
        texts: plain text to pre-train on, without prompt template and held-out rows.
        output: folder that receives model, tokenizer and, last, the marker.
        wording: what the tokenizer knows beside these texts.
        config: configuration of another architecture, which is made small; None for one of `ARCHITECTURES`.

    Raises:
        RecipeError: an unknown architecture.
        InputError: no text, or a folder that cannot be written.
    """
    if config is None and architecture not in ARCHITECTURES:
        raise RecipeError(
            f"base.model 'toy:{architecture}' is unknown - use one of {', '.join(sorted(ARCHITECTURES))}."
        )
    documents = [text for text in texts if text.strip()]
    if not documents:
        raise InputError("There is no text to make a toy base from - the dataset's rows are empty.")
    require_own(output, own_files(output), "the base")
    tokenizer = train_tokenizer([*documents, *wording.texts], spec.vocab_size)
    if wording.chat:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.chat_template = CHATML
    model = random_model(architecture, spec, tokenizer, config)
    say(f"toy base: {architecture}, {model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    _pretrain(model, tokenizer, documents, spec)
    with Replacement(output) as place:
        tokenizer.save_pretrained(place.work)
        model.save_pretrained(place.work)
        about = {"architecture": architecture, "toy": spec.model_dump(), "files": list_files(place.work)}
        write_sealed(place.work / MARKER, about)
        place.publish(own_files(output) or {})


def make_recipe_base(recipe: Recipe, rows: Iterable[Record], output: Path) -> None:
    """Make a recipe's toy base from its training rows, the held-out ones left out; as `make_base`."""
    rows = list(rows)
    make_base(
        recipe.base.model.removeprefix(TOY_PREFIX),
        recipe.base.toy or ToyBase(),
        plain_texts(rows),
        output,
        wording=Wording(_wording(recipe, rows)),
    )


def recipe_tokenizer(recipe: Recipe, rows: Iterable[Record]) -> PreTrainedTokenizerFast:
    """The tokenizer that `make_recipe_base` would make, without the model."""
    rows = list(rows)
    documents = [text for text in plain_texts(rows) if text.strip()]
    return train_tokenizer([*documents, *_wording(recipe, rows)], (recipe.base.toy or ToyBase()).vocab_size)


def _wording(recipe: Recipe, rows: Iterable[Record]) -> list[str]:
    """What the tokenizer alone should know well: the rubric's and the template's text, and the answers."""
    return [load_rubric(recipe.judge.rubric).prompt("", "", ""), *prompt_texts(recipe), *answer_texts(rows)]


def prompt_texts(recipe: Recipe) -> list[str]:
    """The text of the recipe's template, where it is one of kollm's own."""
    name = "kullm-2023" if recipe.prompt == "auto" else recipe.prompt
    return [PromptTemplate.load(name).prompt("", " ")] if name in PromptTemplate.names() else []


def plain_texts(rows: Iterable[Record]) -> Iterator[str]:
    """What a toy base reads in its pre-training: the rows' Korean questions and their whole English originals.

    Leaving the Korean answers out makes the toy what a real base is, a model that knows the language and has not seen
    how the dataset answers, so that training has something to teach.
    """
    for row in rows:
        yield from (user for user, _ in row.history)
        yield from (row.instruction, row.input)
        if row.original is not None:
            yield from row.original.texts().values()


def answer_texts(rows: Iterable[Record]) -> Iterator[str]:
    """The rows' answers, which the tokenizer alone gets to see."""
    for row in rows:
        yield from (assistant for _, assistant in row.history)
        yield row.output


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (every text can be written with it), with EOS `<|endoftext|>` and its own pad."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS_TOKEN, PAD_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=EOS_TOKEN,
        eos_token=EOS_TOKEN,
        pad_token=PAD_TOKEN,
        clean_up_tokenization_spaces=False,
    )


def random_model(architecture: str, spec: ToyBase, tokenizer: Any, config: Any = None) -> Any:
    """A model of the shape with random weights, whose config and generation config agree with the tokenizer.

    Args:
        architecture: one of `ARCHITECTURES`, unless a configuration is given.
        spec: the shape.
        tokenizer: decides vocabulary and special tokens.
        config: configuration of another architecture, which is made small.
    """
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vocabulary = math.ceil(len(tokenizer) / 64) * 64
    if config is None:
        shape = ARCHITECTURES[architecture](spec)
        config = AutoConfig.for_model(architecture, vocab_size=vocabulary, **shape, **special)
    else:
        config = small_config(config, spec, vocabulary, special)
    torch.manual_seed(spec.seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(**special)
    return model


def _neox(spec: ToyBase) -> dict[str, Any]:
    return {
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": 4 * spec.hidden_size,
        "max_position_embeddings": spec.context,
        "initializer_range": spec.hidden_size
        ** -0.5,  # the usual 0.02 is for wide models; here attention would stay idle
    }


def _llama(spec: ToyBase) -> dict[str, Any]:
    return {**_neox(spec), "intermediate_size": 3 * spec.hidden_size, "num_key_value_heads": spec.heads}


def _bloom(spec: ToyBase) -> dict[str, Any]:
    return {"hidden_size": spec.hidden_size, "n_layer": spec.layers, "n_head": spec.heads}


def _gpt2(spec: ToyBase) -> dict[str, Any]:
    return {"n_embd": spec.hidden_size, "n_layer": spec.layers, "n_head": spec.heads, "n_positions": spec.context}


ARCHITECTURES = {"gpt_neox": _neox, "llama": _llama, "mistral": _llama, "bloom": _bloom, "gpt2": _gpt2}
"""Architecture -> its config's keys for a toy shape."""


def _pretrain(model: Any, tokenizer: Any, documents: list[str], spec: ToyBase) -> None:
    """Next-token prediction on blocks of the documents' text, one cycle of a cosine schedule with warm-up."""
    if spec.pretrain_steps == 0:
        return
    blocks = _blocks(tokenizer, documents, spec.pretrain_block)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, weight_decay=0.1, betas=(0.9, 0.95), fused=True
    )
    warm_up = min(0.6, max(0.1, 1.1 / spec.pretrain_steps))  # of one step, torch's schedule divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=spec.learning_rate, total_steps=spec.pretrain_steps, pct_start=warm_up, cycle_momentum=False
    )
    model.train()
    for step, batch in enumerate(_batches(blocks, spec), start=1):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step == 1 or step % 25 == 0 or step == spec.pretrain_steps:
            say(f"toy base: pre-training step {step} of {spec.pretrain_steps}, loss {loss.item():.3f}")
    model.eval()


def _blocks(tokenizer: Any, documents: list[str], size: int) -> torch.Tensor:
    """The documents' tokens, EOS after each, cut into rows of `size`; a text too short for one row is repeated."""
    ids: list[int] = []
    for encoded in tokenizer(documents, add_special_tokens=False)["input_ids"]:
        ids += [*encoded, tokenizer.eos_token_id]
    while len(ids) < size:
        ids += ids
    return torch.tensor(ids[: len(ids) // size * size]).view(-1, size)


def _batches(blocks: torch.Tensor, spec: ToyBase) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(spec.seed)
    waiting = torch.empty(0, dtype=torch.long)
    for _ in range(spec.pretrain_steps):
        while len(waiting) < spec.pretrain_batch:
            waiting = torch.cat([waiting, torch.randperm(len(blocks), generator=generator)])
        yield blocks[waiting[: spec.pretrain_batch]]
        waiting = waiting[spec.pretrain_batch :]
