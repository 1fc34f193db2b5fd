"""The version, where every wing can read it without importing kollm itself."""

__version__ = "0.1.0"
