"""Where questions come from, and the pictures of questions and examples: sections of a recipe."""

from typing import Any

from pydantic import Field

from groupwise.config.sections import Section


class PicturesConfig(Section):
    """Where the pictures of rows are (docs/questions.md)."""

    image_column: str | None = None
    """Column with a row's pictures; None: `images` or `image`."""
    image_dir: str | None = None
    """Folder that paths of pictures are relative to; None: the file's own."""
    fetch_images: bool = False
    """Fetch pictures from http: and https: URLs, once for all runs; False: refuse them."""


class QuestionsConfig(PicturesConfig):
    """Where q ~ D comes from. Train and held-out questions never overlap; this is checked."""

    source: str
    """A built-in source (`groupwise list envs`), a .jsonl, .json, .csv, .tsv or .parquet file, a pattern of files
    (`data/*.jsonl`), a folder that `datasets` reads, or a data set on the hub (openai/gsm8k)."""
    subset: str | None = None
    """Subset of a data set on the hub (main)."""
    split: str | None = None
    """Split of a folder or a data set on the hub; None: train, or the only split."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the built-in source."""
    size: int | None = Field(default=None, ge=1, le=100_000_000)
    """Number of questions to generate or read; None: the source's default, or the whole file."""
    prompt_column: str | None = None
    """Column with the question; None: the first of `prompt`, `problem`, `question`, `instruction` and `input` that
    exists."""
    answer_column: str | None = None
    """Column with the right answer; None: `answer`, `solution`, `ground_truth`, `label` or `target`, whichever
    exists."""
    ignore_columns: tuple[str, ...] | None = None
    """Columns whose usual meaning to ignore, or keys of the objects in a column (`extra_info.tools_kwargs`). Rewards
    still get the columns."""
    system: str | None = None
    """System prompt before every question; None: none is added."""
    template: str | None = None
    """Text around the question, with {question} in its place; None: only the question."""
    shuffle: bool = True
    """Shuffle anew for each epoch, by the seed; False: keep the file's order."""
    heldout: str | None = None
    """File of held-out questions with the same columns; None: set them aside from the source."""
    heldout_split: str | None = None
    """Split with the held-out questions (test), of `heldout` or, if that is null, of the source."""
    heldout_size: int | None = Field(default=None, ge=0, le=100_000_000)
    """Number of questions set aside for evaluation, drawn by the seed; None: 200, or a fifth of fewer than 1,000. With
    `heldout`, a limit on that file; None: 200."""
