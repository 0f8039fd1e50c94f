"""Which models read pictures: none that is loaded here, so that a conversation with one is refused."""

from collections.abc import Sequence

from groupwise.data import Message
from groupwise.errors import ModelError


def check_no_images(messages: Sequence[Message], where: str) -> None:
    """Raises ModelError if a message has a picture."""
    for number, message in enumerate(messages):
        if message.images:
            raise ModelError(
                f"{where}: messages[{number}] has a picture, {message.images[0].name}: the model reads text alone",
                hint="leave the picture out",
            )
