"""An adapter that kollm trained, in plain PEFT and transformers: kollm itself is not needed.

    python examples/plain_peft.py ADAPTER "한국의 수도는 어디인가요?"

ADAPTER is a folder or a name on the Hub. The prompt template travels with the tokenizer, as its chat template.
"""

from __future__ import annotations

import sys

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer


def answer(adapter: str, instruction: str, new_tokens: int = 64) -> str:
    """The model's answer to one instruction, decoded greedily."""
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": instruction}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        ids = model.generate(**prompt, max_new_tokens=new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    text: str = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


if __name__ == "__main__":
    print(answer(*sys.argv[1:3]))
