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
    if recipe.judge.engine == "openai":
        if recipe.judge.base_url is not None:
            check_recipe_address(recipe.judge.base_url, f"Recipe {recipe.name}: judge.base_url")
        yield f"answers to judge go to {chat_endpoint(recipe.judge.base_url)}"
