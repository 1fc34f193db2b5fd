"""Publishing on the Hub: what is checked, what goes up, and the one commit that carries it."""

from kollm.hub.publish import listing, plan_offline, plan_push, push

__all__ = ["listing", "plan_offline", "plan_push", "push"]
