"""The JSON Schema of recipes, by which editors complete and check them."""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from groupwise.config.recipe import RECIPES


def recipe_schema() -> dict[str, Any]:
    """Of a recipe: one of the stages' recipes, told apart by `stage`."""
    union: Any = reduce(or_, RECIPES.values())
    schema = TypeAdapter(Annotated[union, Field(discriminator="stage")]).json_schema()
    return {"title": "groupwise recipe", **schema}
