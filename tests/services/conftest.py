"""The loopback Hub, for the tests of what is pulled from it."""

from tests.hub.conftest import hub, server

__all__ = ["hub", "server"]
