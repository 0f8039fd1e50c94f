"""A small MCP server for the tests: over stdio, or with a port over HTTP."""

import os
import subprocess
import sys

import anyio
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("small")
arrived = []


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)


@server.tool()
def refuse(text: str) -> str:
    """Fails with a text."""
    raise ToolError(text)


@server.tool()
async def slow(seconds: float) -> str:
    """Takes its time."""
    await anyio.sleep(seconds)
    return "done"


@server.tool()
async def meet(persons: int) -> str:
    """Waits until so many have called."""
    arrived.append(None)
    while len(arrived) < persons:
        await anyio.sleep(0.01)
    return "met"


@server.tool()
def die(file: str) -> str:
    """Ends the server, unless it did so before with this file."""
    if os.path.exists(file):
        return "lived"
    open(file, "w").close()
    os._exit(3)


@server.tool()
def die_always() -> str:
    """Ends the server."""
    os._exit(3)


@server.tool()
def huge(characters: int) -> str:
    """Gives a long text."""
    return "x" * characters


@server.tool()
def picture() -> Image:
    """Gives a picture."""
    return Image(data=b"123456", format="png")


@server.tool()
def child() -> str:
    """Starts a process that goes on, and gives its number."""
    nothing = subprocess.DEVNULL
    started = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing)
    return str(started.pid)


@server.tool()
def environment(name: str) -> str:
    """Gives a variable of the server's environment."""
    return os.environ.get(name, "-")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
