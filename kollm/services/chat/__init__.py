"""The one client of OpenAI-compatible services: governed, capped, bought once through the ledger, in batches too."""

from kollm.services.chat.client import ChatClient, ChatReply, ChatRequest, run_async
from kollm.services.chat.service import ChatService

__all__ = ["ChatClient", "ChatReply", "ChatRequest", "ChatService", "run_async"]
