"""Verdicts of others: recorded judgments in the forms of other projects, read into kollm's own."""
