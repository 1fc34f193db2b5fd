"""Self-chat: transcripts become conversations; what is out of turn, cut off or refused does not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kollm.services.chat import run_async
from kollm.services.chat.messages import ChatReply
from kollm.synthesize.self_chat import Settings, read_conversation, self_chat
from kollm.synthesize.wording import load_wording
from tests.servers.chat import LoopbackChat, Said
from tests.synthesize.conftest import MakeClient

KO = load_wording("ko")


def model(body: dict[str, Any]) -> Said | str | int:
    prompt = body["messages"][0]["content"]
    topic = prompt.split("주제: ", 1)[1].split("\n", 1)[0]
    if topic == "잘림":
        return Said("[사람] 첫 질문\n[비서] 첫 대답\n[사람] 둘째 질문\n[비서] 둘째 대", "length")
    if topic == "거절":
        return Said("", "content_filter")
    if topic == "엉뚱":
        return "대화를 쓸 수 없습니다."
    return f"[사람] {topic}에 대해 알려 주세요.\n[비서]: 네, 설명하겠습니다.\n자세히요.\n[사람] 더요.\n[비서] 끝입니다."


def test_both_roles_become_one_multi_turn_row(make_client: MakeClient) -> None:
    with LoopbackChat(model) as chat:
        client = make_client(chat)
        made = run_async(self_chat(client, ["김치", "잘림", "거절", "엉뚱"], KO, "ko", Settings(turns=2)))
        again = run_async(self_chat(client, ["김치", "잘림", "거절", "엉뚱"], KO, "ko", Settings(turns=2)))
    assert again == made and len(chat.bodies) == 4
    whole, cut = made.records
    assert whole.history == (("김치에 대해 알려 주세요.", "네, 설명하겠습니다.\n자세히요."),)
    assert (whole.instruction, whole.output, whole.lang) == ("더요.", "끝입니다.", "ko")
    assert (cut.history, cut.instruction, cut.output) == ((), "첫 질문", "첫 대답")
    assert made.dropped == Counter(refusal=1, no_conversation=1)
    assert [record.id for record in made.records] == ["self_chat-0", "self_chat-1"]
    assert "모두 2번씩" in chat.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("[비서] 먼저 말하면\n[사람] 안 됩니다", []),
        ("[사람] 가\n[사람] 나\n[비서] 다", []),
        ("[사람] 가\n[비서] 나\n[사람] 다", [("가", "나")]),
        ("[사람] 가\n[비서]\n[사람] 다\n[비서] 라", []),
        ("", []),
    ],
)
def test_a_transcript_is_read_up_to_the_first_fault(text: str, pairs: list[tuple[str, str]]) -> None:
    assert read_conversation(ChatReply(text, "ok"), KO) == pairs
