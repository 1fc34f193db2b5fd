"""The dataset pipeline, from sources to a dataset folder: plan, prepare, translate, finish, write."""

from kollm.build.pipeline import BuildReport, build_dataset, find_processes
from kollm.build.settings import Settings, SourceInput

__all__ = ["BuildReport", "Settings", "SourceInput", "build_dataset", "find_processes"]
