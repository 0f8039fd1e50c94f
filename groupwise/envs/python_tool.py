"""The tool `python`: programs that the policy writes, in a sandbox."""

from groupwise.sandbox.base import Limits
from groupwise.sandbox.designs import open_sandbox


class PythonTool:
    """Programs that the policy writes, run in a sandbox (groupwise.sandbox); each call is a fresh process.

    design, url: as of the reward `code`. seconds, memory_mb: limits of a call. at_once: calls side by side. Raises
    ConfigError, with what to install, if no sandbox holds here: there is no other way to run a program.
    """

    shared = True  # opening a sandbox takes a second

    def __init__(
        self,
        *,
        design: str = "auto",
        url: str | None = None,
        seconds: float = 5.0,
        memory_mb: int = 512,
        at_once: int = 2,
    ) -> None:
        self._sandbox = open_sandbox(design, url=url, slots=at_once, memory_mb=memory_mb)
        self._limits = Limits(seconds=seconds, memory_mb=memory_mb)

    def python(self, code: str) -> str:
        """Runs a Python program and gives what it prints.

        Args:
            code: The program. It has the standard library, no network and no files, and must print its result.
        """
        outcome = self._sandbox.run(code, b"", self._limits)
        said = outcome.stdout.decode("utf-8", "replace")
        if outcome.fault:
            return f"error: {outcome.fault}" + (f"\n{said}" if said else "")
        return said or "the program printed nothing"

    def close(self) -> None:
        """Ends the sandbox."""
        self._sandbox.close()
