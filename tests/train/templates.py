"""Chat templates for tests: those that TRL ships, and grammars of families with Korean users, written anew.

The Korean ones keep each family's turn marks, its place for a system message and its habits (an empty system turn, an
empty reasoning, a default system message), and leave out tools and pictures.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import trl.chat_template_utils
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_MARK = re.compile(
    r"<[|｜][^<>'\"{}\s]*?[|｜]>|\[\|[a-z]+\|\]|</?(?:start_of_turn|end_of_turn|end_of_utterance|think)>"
    r"|<turn\|>|<\|turn>|<channel\|>|<\|channel>|\[gMASK\]|<sop>"
)
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Where Llama 3 and Qwen cut before merging: newlines stay together, and apart from the word after them."""
_ROLES = ("system", "user", "assistant", "tool", "model")
_TRL = Path(trl.chat_template_utils.__file__).parent / "chat_templates"

_CHATML_OF_TAGS = (
    "{%- for m in messages %}{{- '<|im_start|><|' + m.role + '|>' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|><|assistant|>' }}{%- endif %}"
)
_HEADERS = (
    "{{- bos_token }}{%- if messages[0].role != 'system' %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nDEFAULT<|eot_id|>' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)

KOREAN = {
    "exaone-3.5": (
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}"
        "{{ '[|' + m.role + '|]' + m.content }}{{ '\\n' if m.role == 'user' else '[|endofturn|]\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
    ),
    "exaone-4.0": (
        "{%- set last = namespace(user=0) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set last.user = loop.index0 %}"
        "{%- endif %}{%- endfor %}{%- for m in messages %}{{- '[|' + m.role + '|]\\n' }}"
        "{%- if m.role == 'assistant' and loop.index0 > last.user %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
        "{{- m.content | trim + '[|endofturn|]\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '[|assistant|]\\n' }}"
        "{%- if enable_thinking is defined and enable_thinking %}{{- '<think>\\n' }}"
        "{%- else %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
    ),
    "hyperclovax-seed": (
        "{{- '<|im_start|>tool_list\\n<|im_end|>\\n' }}{%- for m in messages %}"
        "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    ),
    "kanana-1.5": _HEADERS.replace("'<|start_header_id|>system<|end_header_id|>\\n\\nDEFAULT<|eot_id|>'", "''"),
    "a.x-4.0": _CHATML_OF_TAGS,
    "midm-2.0": _HEADERS,
    "solar-10.7b": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ '### System:\\n' + m.content + '\\n\\n' }}"
        "{% elif m.role == 'user' %}{{ '### User:\\n' + m.content + '\\n\\n' }}"
        "{% else %}{{ '### Assistant:\\n' + m.content }}{% endif %}"
        "{% if loop.last and add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}{% endfor %}"
    ),
    "solar-open": (
        "{%- for m in messages %}{{- '<|begin|>' + m.role + '<|content|>' + m.content + '<|end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|begin|>assistant' }}{%- endif %}"
    ),
}
"""Family -> its grammar."""


def trl_templates() -> dict[str, str]:
    """Every template that TRL ships for a base, by name; those for training are their variants."""
    return {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted(_TRL.glob("*.jinja"))
        if not path.stem.endswith("_training")
    }


def tokenizer_for(template: str, text: str = "가나다라 hello world") -> Any:
    """A byte-level tokenizer that has the template's marks as special tokens."""
    marks = {
        *_MARK.findall(template),
        *(f"<|{role}|>" for role in _ROLES if "'<|' + m" in template or "'<|' + r" in template),
    }
    marks |= {f"[|{role}|]" for role in _ROLES if "'[|' + m" in template}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>", "<pad>", *sorted(marks - {"<think>", "</think>"})],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text, "assistant\n\nuser\n\nsystem\n</think>\n\n"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_tokens(sorted(marks & {"<think>", "</think>"}))
    fast.chat_template = template
    return fast
