"""Citation marks go, indices, options, links and what an editor put in stay; Self-Instruct's frames go."""

from __future__ import annotations

import time

import pytest

from kollm.sources.citations import without_citations
from kollm.sources.self_instruct import adapt
from kollm.sources.source import Place


@pytest.mark.parametrize(
    ("text", "clean", "kinds"),
    [
        ("It opened in 1998.[12] It was large[3][4] then. [5] See.", "It opened in 1998. It was large then. See.", "numbers"),
        ("Sydney.[4]It grew.\n\nLater,[17][18] it fell.[2]:55", "Sydney. It grew.\n\nLater, it fell.", "numbers"),
        ('"Loud," he said,[6] "loud,"[7] and (so)[8] on, 30%[9] of it.', '"Loud," he said, "loud," and (so) on, 30% of it.', "numbers"),
        ("Born 1820[a] in Ulm.[b]", "Born 1820 in Ulm.", "notes"),
        ("It is rare.[citation needed] Some [who?] say so.", "It is rare. Some say so.", "editorial"),
        ("GDP[note 2] rose.", "GDP rose.", "numbers"),
        ("He require[d] it and say[s] so, she [sic] said.", None, ""),
        ("Choose: [1] apple [2] pear [3] fig", None, ""),
        ("Take row[1] and row[12].", None, ""),
        ("Write my_list[0] first, then items[10].", None, ""),
        ("In Python, items[10] is the eleventh.", None, ""),
        ("x = [1, 2],[3]; y = f(x)[0]", None, ""),
        ("Use `a.[1]` there.[2]", None, ""),
        ("See this.[1](https://example.org)", None, ""),
        ("The matrix a[1] is new. It is old.[3]", "The matrix a[1] is new. It is old.", "numbers"),
    ],
)  # fmt: skip
def test_citations(text: str, clean: str | None, kinds: str) -> None:
    found = without_citations([text])
    assert found.texts == [text if clean is None else clean]
    assert all(kind.startswith(("citation_numbers", "note_marks", "editorial_marks")) for kind in found.kinds)
    assert bool(found.kinds) == bool(kinds)


def test_one_field_tells_of_another() -> None:
    question = "How do I read the first element of a list in Python?"
    assert without_citations([question, "Write items[10] for it."]).texts[1] == "Write items[10] for it."
    assert without_citations(["Who lived there?", "Settlers[10] did."]).texts[1] == "Settlers did."


@pytest.mark.parametrize(
    "piece", ["[1]", "word[1]", "a[", "[12],", "x[1] ", ".[a]", "[citation needed", "w" * 50 + "[1"]
)
def test_long_texts_take_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        started = time.process_time()
        without_citations([piece * (length // len(piece))])
        return time.process_time() - started

    seconds(1000)
    assert seconds(200_000) < 20 * seconds(50_000) + 0.5


@pytest.mark.parametrize(
    ("prompt", "completion", "texts"),
    [
        ("Task: Name the antonym.\nInput: hot\nOutput:", " cold<|endoftext|>", ("Name the antonym.", "hot", "cold")),
        ("Sort it.\n\nInput: 3\n1\n\nOutput:", "1\n3<|endoftext|>", ("Sort it.", "3\n1", "1\n3")),
        ("What can I do on a Sunday?\n\nOutput:", " Read.<|endoftext|>", ("What can I do on a Sunday?", "", "Read.")),
        ("Task: Say hi.\n\n", "hi", ("Say hi.", "", "hi")),
        ("Fix the Output: line\nplease", "done", ("Fix the Output: line\nplease", "", "done")),
    ],
)
def test_self_instruct_without_its_frames(prompt: str, completion: str, texts: tuple[str, str, str]) -> None:
    adapted = adapt({"prompt": prompt, "completion": completion}, Place("self_instruct", "Apache-2.0"))
    (record,) = adapted.records
    assert (record.instruction, record.input, record.output) == texts
    assert ("end_of_text_removed" in adapted.notes) == ("<|endoftext|>" in completion)
