"""The Hugging Face hub: whether it answers. Downloads nothing."""

import ssl
import urllib.error
import urllib.request

SECONDS = 5.0
"""How long the hub may take for its first answer."""


def go_offline_if_unreachable() -> None:
    """Where the hub does not answer, has its client read its cache at once instead of trying again for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer, though not a friendly one
    except OSError as error:
        # A certificate that only Python's own client does not know says nothing against the hub.
        constants.HF_HUB_OFFLINE = not isinstance(getattr(error, "reason", None), ssl.SSLError)
