"""The JSON Schema of pipelines: what a stage may say is what the recipe of its stage may."""

from typing import Any

from groupwise.config.recipe import RECIPES
from groupwise.config.schema import recipe_schema
from groupwise.pipeline.plan import PipelineFile


def pipeline_schema() -> dict[str, Any]:
    """Of a pipeline. A stage's sections are checked against those of every stage, since it need not say them all."""
    recipes, own = recipe_schema(), PipelineFile.model_json_schema()
    kinds = [recipes["$defs"][kind.__name__]["properties"] for kind in RECIPES.values()]
    sections: dict[str, Any] = {}
    for name in dict.fromkeys(name for kind in kinds for name in kind if name != "stage"):
        forms = [form for number, kind in enumerate(kinds) if (form := kind.get(name)) is not None]
        sections[name] = {"anyOf": [form for at, form in enumerate(forms) if form not in forms[:at]]}
    stage = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "Of the stage, and of its folder."},
            "from": {"type": "string", "description": "base, or '@name' of an earlier stage."},
            "measure": {"type": "array", "items": {"type": "string"}, "description": "Names of measures; [] for none."},
            "stage": {"enum": list(RECIPES)},
            **sections,
        },
    }
    own["properties"]["stages"] |= {"items": stage}
    return {"title": "groupwise pipeline", **own, "$defs": {**own["$defs"], **recipes["$defs"]}}
