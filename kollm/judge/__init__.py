"""Judging answers by a rubric: what is asked (rubric), how replies are read (parse), who is asked (local, served),
and the run that keeps each verdict once (run)."""

from kollm.judge.parse import parse_verdict
from kollm.judge.rubric import Axis, Rubric
from kollm.judge.rubric_file import load_rubric, rubric_names

__all__ = ["Axis", "Rubric", "load_rubric", "parse_verdict", "rubric_names"]
