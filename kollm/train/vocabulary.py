"""Extends a base's vocabulary by Korean, as LLaMA-2-Ko did (32,000 -> 46,336 tokens):

    kollm vocabulary meta-llama/Llama-2-7b-hf --text TEXT.txt --size 46336 -o BASE

The base's own merges stay, first and in their order; new ones follow, each of which makes a token of Hangul alone, with
at most a space before it. So text without Hangul is tokenised as before, to the last token, and Korean becomes shorter.
"""

from __future__ import annotations

import codecs
import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from kollm.core.errors import InputError
from kollm.core.files import write_atomic
from kollm.core.ownership import Replacement, list_files, own_files, require_own, write_sealed
from kollm.services.local_model import LocalModel, find_whole_model, load_network, load_tokenizer

VOCABULARY = "vocabulary.json"
"""Written last: a folder that has it is whole."""
LEAST = 2
"""Occurrences below which a pair of tokens is chance."""
_HANGUL_WORD = re.compile(r" ?[가-힣]+")
_SPACE = "▁"
"""SentencePiece's mark of a space."""
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTE = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + index): byte for index, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}
"""Characters in which byte-level BPE writes bytes: printable Latin-1 as it is, the others by their order from 256 on."""


@dataclass(slots=True)
class Growth:
    """What is added to a vocabulary: tokens in the order of their ids, and the merges that make them."""

    tokens: list[str] = field(default_factory=list)
    merges: list[tuple[str, str]] = field(default_factory=list)


def grow(backend: Tokenizer, texts: Iterable[str], room: int) -> Growth:
    """Learn up to `room` tokens from the Hangul words of the texts by going on with byte-pair encoding.

    Args:
        backend: a BPE tokenizer, by bytes (GPT-NeoX, Llama 3) or by characters with bytes for unknown ones (Llama 2).
        texts: Korean text; the more, the better the tokens.
        room: most tokens to add; fewer come of little text.

    Raises:
        InputError: another kind of tokenizer, or text without Hangul.
    """
    state = json.loads(backend.to_str())
    if state["model"]["type"] != "BPE":
        raise InputError(f"The tokenizer is of the kind {state['model']['type']} - only BPE can be extended.")
    words = Counter(word for text in texts for word in _HANGUL_WORD.findall(text))
    if not words:
        raise InputError("The texts hold no Hangul - name files of Korean text.")
    growth, vocabulary = Growth(), set(state["model"]["vocab"])
    by_bytes = _by_bytes(state)
    if not by_bytes:
        growth.tokens += _new_syllables(words, vocabulary, room)
        backend = Tokenizer.from_str(extended(state, growth))
    pieces: Counter[tuple[str, ...]] = Counter()
    for word, count in words.items():
        written = _written(word, by_bytes)
        pieces[tuple(token.value for token in backend.model.tokenize(written))] += count
    known = vocabulary | set(growth.tokens)
    for merge in learn_merges(
        pieces, room - len(growth.tokens), known, _is_hangul if not by_bytes else _is_hangul_bytes
    ):
        growth.merges.append(merge)
        token = "".join(merge)
        if token not in known:
            known.add(token)
            growth.tokens.append(token)
    return growth


def learn_merges(
    words: Mapping[tuple[str, ...], int], room: int, known: Container[str], wanted: Callable[[str], bool]
) -> list[tuple[str, str]]:
    """Byte-pair encoding: join the commonest pair of neighbours, again and again.

    Args:
        words: words in pieces, and how often each occurs.
        room: most tokens to make that are not known yet.
        known: tokens that there are.
        wanted: whether a joined token may be made.

    Returns:
        Pairs in the order in which they were joined; ties go by the pairs' text, so that the order of words is of no account.
    """
    rows, counts = [list(pieces) for pieces in words], list(words.values())
    totals: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for index, row in enumerate(rows):
        for pair in pairwise(row):
            totals[pair] += counts[index]
            places[pair].add(index)
    heap = [(-total, pair) for pair, total in totals.items()]
    heapq.heapify(heap)
    merges: list[tuple[str, str]] = []
    made: set[str] = set()
    while heap and len(made) < room:
        negative, pair = heapq.heappop(heap)
        total = totals[pair]
        if total < LEAST or not wanted("".join(pair)):
            continue
        if total != -negative:  # an entry from before a neighbour was joined
            heapq.heappush(heap, (-total, pair))
            continue
        merges.append(pair)
        made |= {"".join(pair)} if "".join(pair) not in known else set()
        touched: set[tuple[str, str]] = set()
        for index in places.pop(pair):
            totals.subtract({old: n * counts[index] for old, n in Counter(pairwise(rows[index])).items()})
            rows[index] = _join(rows[index], pair)
            for new, n in Counter(pairwise(rows[index])).items():
                totals[new] += n * counts[index]
                places[new].add(index)
                touched.add(new)
        for new in touched:
            heapq.heappush(heap, (-totals[new], new))
    return merges


def extended(state: Mapping[str, Any], growth: Growth) -> str:
    """The tokenizer's JSON with the growth in it; new ids follow the highest there is."""
    model = dict(state["model"])
    first = max([*model["vocab"].values(), *(token["id"] for token in state["added_tokens"])]) + 1
    model["vocab"] = {**model["vocab"], **{token: first + index for index, token in enumerate(growth.tokens)}}
    model["merges"] = [*model["merges"], *(list(pair) for pair in growth.merges)]
    return json.dumps({**state, "model": model}, ensure_ascii=False)


def extend_base(
    base: str, texts: Sequence[str], size: int, output: Path, revision: str | None = None
) -> dict[str, Any]:
    """Write a base with a vocabulary of `size` tokens to a folder, for `kollm train ... --base FOLDER`.

    A new token's row in embedding and head starts at the mean of the rows of the tokens that it replaces.

    Args:
        base: folder or Hub id.
        texts: Korean text to learn from.
        size: tokens in all, special ones included.
        output: folder for the model.
        revision: the base's, on the Hub.

    Returns:
        `before` and `after`: tokens, and tokens a character of the texts; what `vocabulary.json` holds.

    Raises:
        InputError: no such base, a tokenizer that cannot be extended, or a size that leaves no room.
    """
    require_own(output, own_files(output), "the extended base")
    found = find_whole_model(base, revision)
    old, model = load_tokenizer(found), load_network(found, "auto")
    if size <= len(old):
        raise InputError(f"--size is {size}, and '{base}' has {len(old)} tokens already - choose a larger one.")
    backend = old.backend_tokenizer
    growth = grow(backend, texts, size - len(old))
    with Replacement(output) as place:
        old.save_pretrained(place.work)
        write_atomic(place.work / "tokenizer.json", extended(json.loads(backend.to_str()), growth))
        new = load_tokenizer(LocalModel(place.work, str(output)))
        model.resize_token_embeddings(len(new), pad_to_multiple_of=64, mean_resizing=False)
        _fill_rows(model, backend, new, growth)
        model.save_pretrained(place.work)
        sizes = {
            name: {"tokens": len(tokenizer), "tokens_per_character": round(tokens_per_character(tokenizer, texts), 4)}
            for name, tokenizer in (("before", old), ("after", new))
        }
        about = {"base": base, "revision": revision, **sizes, "files": list_files(place.work)}
        write_sealed(place.work / VOCABULARY, about)
        place.publish(own_files(output) or {})
    return sizes


def tokens_per_character(tokenizer: Any, texts: Sequence[str]) -> float:
    """Tokens that a character of the texts takes on average."""
    tokens = sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])
    return tokens / max(sum(map(len, texts)), 1)


def _fill_rows(model: Any, backend: Tokenizer, new: Any, growth: Growth) -> None:
    ids = new.get_vocab()
    for weight in {id(w): w for w in (_weight(model, "input"), _weight(model, "output"))}.values():
        with torch.no_grad():
            for token in growth.tokens:
                replaced = [piece.id for piece in backend.model.tokenize(token)]
                weight[ids[token]] = weight[replaced].float().mean(dim=0).to(weight.dtype)


def _weight(model: Any, side: str) -> torch.Tensor:
    weight: torch.Tensor = getattr(model, f"get_{side}_embeddings")().weight
    return weight


def _by_bytes(state: Mapping[str, Any]) -> bool:
    return '"ByteLevel"' in json.dumps(state["pre_tokenizer"])


def _written(word: str, by_bytes: bool) -> str:
    """A word as the merges see it: a character a byte, or characters with the mark of a space."""
    if not by_bytes:
        return word.replace(" ", _SPACE)
    return str(ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(word)[0][0])


def _new_syllables(words: Mapping[str, int], vocabulary: Container[str], room: int) -> list[str]:
    """Syllables without a token, the commonest first: what is written in bytes cannot be merged."""
    syllables: Counter[str] = Counter()
    for word, count in words.items():
        for syllable in word.strip():
            syllables[syllable] += count
    ranked = sorted(syllables.items(), key=lambda item: (-item[1], item[0]))
    return [syllable for syllable, count in ranked if count >= LEAST and syllable not in vocabulary][:room]


def _is_hangul(token: str) -> bool:
    return re.fullmatch(rf"{_SPACE}?[가-힣]+", token) is not None


def _is_hangul_bytes(token: str) -> bool:
    """Whole syllables, at the end perhaps the first two bytes of one, which no other script begins with."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(bytes(_BYTE[character] for character in token))
    except UnicodeDecodeError:  # begins inside a syllable: other scripts have such bytes too
        return False
    rest = decoder.getstate()[0]
    return re.fullmatch(" ?[가-힣]*", text) is not None and len(rest) != 1 and bool(text.strip() or rest)


def _join(row: Sequence[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    index = 0
    while index < len(row):
        if index + 1 < len(row) and (row[index], row[index + 1]) == pair:
            joined.append(row[index] + row[index + 1])
            index += 2
        else:
            joined.append(row[index])
            index += 1
    return joined
