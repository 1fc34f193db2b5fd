"""Who gets text in a run, and whose key goes there: said before anything is sent, and in a dry run."""

from __future__ import annotations

from collections.abc import Iterator

from kollm.recipe.schema import Recipe
from kollm.services.endpoint import chat_endpoint, check_recipe_address, translator_endpoint


def destinations(recipe: Recipe, dataset_given: bool) -> Iterator[str]:
    """A line for each service that a run asks; none for a run that stays on this machine.

    Args:
        recipe: what is run.
        dataset_given: whether the dataset is there already, so that nothing is translated.

    Raises:
        InputError: the recipe names an address that the user does not, or one with a password.
    """
    translator = None if dataset_given else translator_endpoint(recipe.data.translator)
    if translator is not None:
        yield f"rows to translate go to {translator}"
    step = recipe.preference
    own = step.judge if step is not None else None
    for key, what, judge in (("judge", "answers", recipe.judge), ("preference.judge", "samples", own)):
        if judge is None or judge.engine != "openai":
            continue
        if judge.base_url is not None:
            check_recipe_address(judge.base_url, f"Recipe {recipe.name}: {key}.base_url")
        shown = "samples and answers" if step is not None and own is None else what
        yield f"{shown} to judge go to {chat_endpoint(judge.base_url)}"
