"""The sixth stage: a base, an adapter or a service answers evaluation tasks."""
