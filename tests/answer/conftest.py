"""A small base that the tests of a module answer with."""

from __future__ import annotations

from pathlib import Path

import pytest

WORDS = "가나다라 마바사 아자차카 타파하 서울은 대한민국의 수도입니다. 물은 섭씨 0도에서 업니다. 오늘 날씨가 좋습니다."


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-NeoX of two layers that has seen WORDS; nobody may write into it."""
    pytest.importorskip("torch")
    from kollm.recipe.schema import ToyBase
    from kollm.train.toy import make_base

    folder = tmp_path_factory.mktemp("base")
    spec = ToyBase(hidden_size=32, layers=2, heads=2, vocab_size=400, context=512, pretrain_steps=20, pretrain_block=32)
    make_base("gpt_neox", spec, [WORDS] * 20, folder)
    return folder
