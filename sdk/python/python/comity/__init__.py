"""Ask AI models that stay with their owners, within a research budget, with a receipt for each answer.

    import comity

    client = comity.Client()
    client.models.search()                          # what may I use, and what does it cost?
    client.chat("lab/tiny", "What is the capital of France?")
    client.compare(["lab/a", "lab/b"], ["one prompt", "another"], cap=comity.credits("0.1"))
    client.fingerprint.take("lab/tiny")             # is it still the same model, in half a year?
    client.openai()                                 # an `openai.OpenAI`, ready

The wallet is the one of the `comity` command, which comes with this package. One program uses it at a time.
"""

from . import errors
from ._amount import Amount, credits
from ._answer import Answer, Embeddings
from ._client import Client, proxy
from ._comity import __version__
from ._fingerprint import Check, Fingerprint
from ._many import Batch, Comparison, Prompt, Setting
from .errors import ComityError

__all__ = [
    "Amount",
    "Answer",
    "AsyncClient",
    "Batch",
    "Check",
    "Client",
    "ComityError",
    "Comparison",
    "Embeddings",
    "Fingerprint",
    "Prompt",
    "Setting",
    "__version__",
    "credits",
    "errors",
    "protocol",
    "proxy",
]


def __getattr__(name):
    # `asyncio` is three quarters of what importing this takes.
    if name == "AsyncClient":
        from ._async import AsyncClient

        return AsyncClient
    if name == "protocol":
        import importlib

        return importlib.import_module(".protocol", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
