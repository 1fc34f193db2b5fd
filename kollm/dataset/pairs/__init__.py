"""Preference pairs of answers and verdicts, of people's labels, and of files: chosen, counted and written."""
