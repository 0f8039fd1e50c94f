"""Whether questions, outputs and an environment's replies fit into the context of the models that read them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from groupwise.data import Message, Question
from groupwise.envs.episode import SINGLE_TURN, Environments
from groupwise.errors import DataError
from groupwise.model.gallery import Gallery
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.pictures import size_of

LOOKED_AT = 64
"""Questions, from all over the file, of which a length is taken where not all are."""


def check_lengths(
    tokenizer: ChatTokenizer,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    readers: Sequence[tuple[str, int]] = (),
    environments: Environments = SINGLE_TURN,
) -> None:
    """Raises DataError if a question and its output could not fit together into the context of a model that reads them.

    readers: what each model beside the policy is, in words, and its context. A question is encoded only if it might not
    fit: no tokenizer makes more tokens of a text than twice its bytes, and what the template writes around turns of the
    same roles is no more than twice the first such question in all. With an environment, whose reset() may take its
    time, LOOKED_AT questions are looked at, with the replies that it says there may be. Raises ModelError if the chat
    template does not write the environment's tools.
    """
    if tokenizer.gallery is None:
        _check_no_images(questions)
    model, context = min((("the model", tokenizer.context), *readers), key=lambda reader: reader[1])
    replies = environments.reply_tokens or 0
    most = max_new_tokens + replies
    around: dict[tuple[str, ...], int] = {}
    for question in spread(questions) if environments.several else questions:
        messages, tools = environments.start(question)
        roles = tuple(message.role for message in messages)
        size = sum(_bytes(message.content) for message in messages)
        pictures = any(message.images for message in messages)
        if not tools and not pictures and roles in around and 2 * (around[roles] + size) + most <= context:
            continue
        length = len(_measuring(tokenizer).encode(messages, tools=tools))
        if not pictures:
            around.setdefault(roles, length)
        if length + most > context:
            place = f"{question.where}: " if question.where else ""
            beside = f" and {replies} tokens of replies" if replies else ""
            what, hint = _of_pictures(tokenizer.gallery, messages, length + most - context)
            raise DataError(
                f"{place}question {question.id!r} has {length} tokens{what}; with rollout.max_new_tokens = "
                f"{max_new_tokens}{beside} that is more than the context of {model}, {context} tokens",
                hint=f"{hint}shorten or drop that question, lower rollout.max_new_tokens, or use a model of longer "
                "context",
            )


def _measuring(tokenizer: ChatTokenizer) -> ChatTokenizer:
    """The tokenizer with a gallery for one question, so that the pictures of all are not held."""
    if tokenizer.gallery is None:
        return tokenizer
    return replace(tokenizer, template=replace(tokenizer.template, gallery=tokenizer.gallery.anew()))


def _of_pictures(gallery: Gallery | None, messages: Sequence[Message], over: int) -> tuple[str, str]:
    """How many tokens are pictures, in words, and the model.max_pixels with which `over` tokens fewer would be."""
    images = [image for message in messages for image in message.images]
    if gallery is None or not images:
        return "", ""
    now = gallery.tokens_of(images)
    what = f", {now} of them of {len(images)} picture{'s' * (len(images) > 1)}"
    fits, too_many = 0, max(width * height for width, height in map(size_of, images))
    while too_many - fits > max(1, fits // 100):
        tried = (fits + too_many) // 2
        if gallery.tokens_of(images, tried) <= now - over:
            fits = tried
        else:
            too_many = tried
    return what, f"set model.max_pixels: {fits}, with which it fits; " if fits else ""


def _check_no_images(questions: Sequence[Question]) -> None:
    """Raises DataError for a question with a picture, which a model that reads text alone cannot see."""
    for question in questions:
        for number, message in enumerate(question.messages):
            if message.images:
                place = f"{question.where}: " if question.where else ""
                raise DataError(
                    f"{place}question {question.id!r}: messages[{number}] has a picture, "
                    f"{message.images[0].name}: the model reads text alone",
                    hint="drop the question, or say with questions.ignore_columns: [images] that pictures do not count",
                )


def longest_question(
    tokenizer: ChatTokenizer, questions: Sequence[Question], environments: Environments = SINGLE_TURN
) -> int:
    """Tokens of the longest of some questions, taken from all over the file."""
    shown = (environments.start(question) for question in spread(questions))
    return max((len(tokenizer.encode(messages, tools=tools)) for messages, tools in shown), default=0)


def spread(questions: Sequence[Question]) -> Sequence[Question]:
    """LOOKED_AT questions at most, taken from all over the file."""
    return questions[:: max(1, len(questions) // LOOKED_AT)][:LOOKED_AT]


def _bytes(text: str) -> int:
    """Bytes of a text as a tokenizer may have normalised it: one character may become eighteen."""
    return len(text) if text.isascii() else len(unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass"))
