"""Tools of an MCP server, started as a command or reached at a URL. The one file that knows the package mcp."""

import asyncio
import atexit
import concurrent.futures
import json
import logging
import shlex
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from groupwise.errors import ConfigError
from groupwise.functions import last_line
from groupwise.marked import watcher
from groupwise.registry import nearest

MARK = "GROUPWISE_MCP"
"""The variable by which a server's processes are found when it is ended; its value is that of one start."""
MOST_CHARACTERS = 100_000
"""Of one result, which is then cut."""
_MOST_PAGES = 100
"""Of a server's list of tools."""
_START_SECONDS = 60.0
"""For a server to say which tools it has."""
_GRACE = 10.0
"""Seconds that ending a server may take, and that a call waits beyond its limit for the loop to say so."""

T = TypeVar("T")


class McpTools:
    """The tools of one MCP server, for all episodes of a process: one session, calls side by side.

    command, args: the server as a program, spoken to over stdin and stdout; env: variables beside HOME, PATH and the
    like, which is all that it gets. url: of a server over streamable HTTP, instead of a command. timeout_seconds: limit
    of a call. allow: names of the tools to offer; None: all. A server that is gone is started again once for a call.
    Raises ConfigError if it cannot be started or lacks a tool of `allow`.
    """

    def __init__(
        self,
        command: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        url: str | None = None,
        timeout_seconds: float = 30,
        allow: Sequence[str] | None = None,
    ) -> None:
        _check(command, args, env, url, timeout_seconds)
        self._start_of = (command, [str(arg) for arg in args], {k: str(v) for k, v in (env or {}).items()}, url)
        self._name = f"the MCP server `{url or shlex.join([str(command), *map(str, args)])}`"
        self._seconds = timeout_seconds
        self._again = "started again" if url is None else "reached again"
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._session = _Session(*self._start_of)
        except ConnectionError as error:
            raise ConfigError(f"{self._name} {error}", hint="try the command in a terminal, or the URL") from None
        atexit.register(self.close)
        tools = self._session.tools
        missing = [name for name in allow or () if name not in tools]
        if missing or not tools:
            self.close()
            what = f"has no tool {missing[0]!r}" if missing else "has no tools"
            raise ConfigError(f"{self._name} {what}", hint=nearest(missing[0], tools) if missing and tools else "")
        self._schemas = {name: schema for name, schema in tools.items() if allow is None or name in allow}

    def schemas(self) -> list[dict[str, Any]]:
        """The tools in OpenAI's form, {"type": "function", "function": {"name", "description", "parameters"}}."""
        return list(self._schemas.values())

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The text of the result; `error: ...` if the tool or the server says that it failed.

        Raises ConnectionError if the server is gone and cannot be started again or is gone again, TimeoutError if it
        takes longer than the limit.
        """
        if name not in self._schemas:
            return f"error: there is no tool {name!r}; {nearest(name, self._schemas)}"
        session = self._session
        try:
            return session.call(name, arguments, self._seconds)
        except TimeoutError:
            raise self._late(name) from None
        except _Gone:
            pass
        try:
            return self._renewed(session, name).call(name, arguments, self._seconds)
        except TimeoutError:
            raise self._late(name) from None
        except _Gone:
            raise ConnectionError(f"{self._name} ended during {name}, was {self._again}, and ended again") from None

    def close(self) -> None:
        """Ends the session, and of a server that was started as a command every process."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._session.close()
        atexit.unregister(self.close)

    def _renewed(self, gone: "_Session", name: str) -> "_Session":
        """The session behind one that is gone: a new one, or that which another call began."""
        with self._lock:
            if self._closed:
                raise ConnectionError(f"{self._name} is closed; {name} was not called")
            if self._session is gone:
                gone.close()
                try:
                    self._session = _Session(*self._start_of)
                except ConnectionError as error:
                    raise ConnectionError(f"{self._name} ended during {name}; {self._again}, it {error}") from None
            return self._session

    def _late(self, name: str) -> TimeoutError:
        return TimeoutError(f"{self._name}: {name} took longer than {self._seconds:g} s")


class _Gone(Exception):
    """The server does not answer any more."""


class _Session:
    """A connection that is open. tools: their schemas by name. Raises ConnectionError, in words, if it fails."""

    def __init__(self, command: str | None, args: list[str], env: dict[str, str], url: str | None) -> None:
        mark = uuid.uuid4().hex
        self._watcher = None if command is None else watcher(f"{MARK}={mark}")
        self._last_words = ""
        self._tools: concurrent.futures.Future[dict[str, dict[str, Any]]] = concurrent.futures.Future()
        self._leave, self._left = asyncio.Event(), threading.Event()
        self._client: Any = None
        self._task = _in_loop(self._live(command, args, env | {MARK: mark}, url))
        try:
            self.tools = self._tools.result(_START_SECONDS)
        except TimeoutError:
            self.close()
            late = f"did not say within {_START_SECONDS:g} s which tools it has"
            raise ConnectionError(late + self._last_words) from None
        except Exception as error:
            self.close()
            raise ConnectionError(f"cannot be used: {_reason(error)}{self._last_words}") from None

    async def _live(self, command: str | None, args: list[str], env: dict[str, str], url: str | None) -> None:
        """Opens the connection, and closes it in the same task, as its cancel scopes demand."""
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:  # the server's stderr
            server: Any = url
            if command is not None:
                server = stdio_client(StdioServerParameters(command=command, args=args, env=env), errlog=log)
            try:
                async with Client(server) as self._client:
                    self._tools.set_result(await _listed(self._client))
                    await self._leave.wait()
            except BaseException as error:
                log.seek(0)
                lines = [line.strip() for line in log.read(100_000).splitlines() if line.strip()]
                self._last_words = f"; it wrote: {lines[-1][:300]}" if lines else ""
                if not self._tools.done():
                    self._tools.set_exception(error)
            finally:
                self._left.set()

    def call(self, name: str, arguments: Mapping[str, Any], seconds: float) -> str:
        """Raises _Gone, or TimeoutError."""
        calling = _in_loop(self._called(name, dict(arguments), seconds))
        try:
            return calling.result(seconds + _GRACE)
        except (concurrent.futures.CancelledError, RuntimeError):
            raise _Gone from None
        finally:
            calling.cancel()

    async def _called(self, name: str, arguments: dict[str, Any], seconds: float) -> str:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        if self._left.is_set():
            raise _Gone
        try:
            found = await asyncio.wait_for(self._client.call_tool(name, arguments, seconds), seconds + 1)
        except MCPError as error:
            if error.error.code == REQUEST_TIMEOUT:
                raise TimeoutError from None
            if error.error.code == CONNECTION_CLOSED:
                raise _Gone from None
            return f"error: {name}: {error.error.message}"
        except TimeoutError:
            raise
        except Exception as error:  # a result that the protocol or the tool's own schema does not allow
            return f"error: {name}: {last_line(error, [])}"
        return _text(found)

    def close(self) -> None:
        """Asks the server to end, waits, and ends what is left of it."""
        _loop().call_soon_threadsafe(self._leave.set)
        if not self._tools.done():
            self._task.cancel()
        self._left.wait(_GRACE)
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._watcher.wait(_GRACE)


async def _listed(client: Any) -> dict[str, dict[str, Any]]:
    """The schemas of all tools by name, page by page."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            function = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
            found[tool.name] = {"type": "function", "function": function}
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _text(result: Any) -> str:
    """A result as text: its texts line by line, other contents named, and cut if it is huge."""
    parts = [_part(part) for part in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    text = "\n".join(parts)
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}\n... cut here, {len(text):,} characters in all"
    return f"error: {text}" if result.is_error else text


def _part(part: Any) -> str:
    if part.type == "text":
        return str(part.text)
    if part.type in ("image", "audio"):
        return f"[{part.type}: {part.mime_type}, {len(part.data) * 3 // 4:,} bytes, not shown]"
    if part.type == "resource" and getattr(part.resource, "text", None) is not None:
        return str(part.resource.text)
    where = part.resource.uri if part.type == "resource" else getattr(part, "uri", "")
    return f"[{part.type}: {where}, not shown]"


def _reason(error: BaseException) -> str:
    """The innermost error in words: task groups put theirs into groups of one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check(
    command: str | None, args: Sequence[str], env: Mapping[str, str] | None, url: str | None, seconds: float
) -> None:
    try:
        import mcp  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the package mcp cannot be imported: {error}", hint='pip install "groupwise[mcp]"') from None
    if (command is None) == (url is None):
        raise ConfigError("an MCP server is named by `command` or by `url`", hint="give one of the two")
    if isinstance(args, str):
        raise ConfigError(f"args = {args!r}: a text", hint="give a list: [server.py, --flag]")
    if url is not None and (args or env):
        raise ConfigError(f"url = {url!r}: a server at a URL takes no args and no env", hint="leave them out")
    if url is not None and not url.startswith(("http://", "https://")):
        raise ConfigError(f"url = {url!r}", hint="it begins with http:// or https://")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
        raise ConfigError(f"timeout_seconds = {seconds!r}", hint="give seconds, 30 for one")


_running: list[asyncio.AbstractEventLoop] = []
_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all MCP sessions of this process, in a thread that ends with it."""
    with _starting:
        if not _running:
            logging.getLogger("mcp").addHandler(logging.NullHandler())  # it logs with tracebacks what we say in a line
            _running.append(asyncio.new_event_loop())
            threading.Thread(target=_running[0].run_forever, name="mcp", daemon=True).start()
        return _running[0]


def _in_loop(work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
    return asyncio.run_coroutine_threadsafe(work, _loop())
