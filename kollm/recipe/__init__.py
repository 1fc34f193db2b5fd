"""What a run is told to do: recipes, prompts and their tokens, facts of bases, task templates; and the shipped files."""
