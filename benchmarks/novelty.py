"""How fast an instruction is compared with all before it, and whether the values are ROUGE-L's.

    python benchmarks/novelty.py ../shared/data/self_instruct_user_oriented_ko.jsonl

The pool is made of the file's instructions with words drawn anew, so that lengths and words are those of real ones.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path

from kollm.core.files import read_jsonl
from kollm.synthesize.novelty import InstructionPool, tokens

SIZES = (1_000, 10_000, 50_000)
ASKED = 200


def rouge_l(first: str, second: str) -> float:
    pool = InstructionPool()
    pool.add(first)
    nearest = pool.nearest(second, 0.0)
    return nearest.score if nearest else 0.0


def plain_rouge_l(first: str, second: str) -> float:
    """The textbook's table, in Python."""
    a, b = tokens(first), tokens(second)
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for place, y in enumerate(b, start=1):
            diagonal, row[place] = row[place], diagonal + 1 if x == y else max(row[place], row[place - 1])
    return 2 * row[-1] / (len(a) + len(b)) if a and b else 0.0


def main(path: Path) -> None:
    real = [str(row["instruction"]) for row in read_jsonl(path)]
    generator = random.Random(0)
    words = [word for text in real for word in text.split()]
    made = [
        " ".join(generator.choices(words, k=len(generator.choice(real).split()))) for _ in range(max(SIZES) + ASKED)
    ]
    pairs = [(generator.choice(real), generator.choice(made)) for _ in range(300)]
    started = time.perf_counter()
    plain = [plain_rouge_l(*pair) for pair in pairs]
    a_pair = (time.perf_counter() - started) / len(pairs)
    apart = max(abs(value - rouge_l(*pair)) for value, pair in zip(plain, pairs, strict=True))
    print(f"largest difference from the plain programme on {len(pairs)} pairs: {apart:.1e}")
    print(f"plain Python: {a_pair * 1e6:,.0f} microseconds a pair\n")
    print("| instructions before | ms an instruction | plain Python, ms |")
    print("|---|---|---|")
    for size in SIZES:
        pool = InstructionPool()
        for text in made[:size]:
            pool.add(text)
        started = time.perf_counter()
        for text in made[-ASKED:]:
            pool.nearest(text, 0.7)
        elapsed = (time.perf_counter() - started) / ASKED
        print(f"| {size:,} | {elapsed * 1e3:.2f} | {a_pair * size * 1e3:,.0f} |")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
