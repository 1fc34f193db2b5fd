"""The third stage, on Korean records: filters, duplicates, leaks, personal data, flags, and what a person reviews."""
