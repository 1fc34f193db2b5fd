"""The whole road in one work folder: which stages there are, and what was done."""
