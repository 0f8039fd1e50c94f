"""Where pictures may stand in a conversation, and which models read none: the rest is refused."""

from collections.abc import Sequence

from groupwise.data import Message
from groupwise.errors import ModelError


def check_images(messages: Sequence[Message], where: str, *, read: bool) -> None:
    """Raises ModelError if a message has a picture that the model does not read, or an answer has one.

    read: the model reads pictures."""
    for number, message in enumerate(messages):
        if message.images and not read:
            raise ModelError(
                f"{where}: messages[{number}] has a picture, {message.images[0].name}: the model reads text alone",
                hint="leave the picture out",
            )
        if message.images and message.role == "assistant":
            raise ModelError(
                f"{where}: messages[{number}] is the assistant's and has a picture, {message.images[0].name}: "
                "the model writes text alone",
                hint="put the picture into a user's turn",
            )
