"""A small OpenEnv server for the tests: a number to guess, or with `tools` an environment with MCP tools."""

import sys
import time

import uvicorn
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Guess(Action):
    message: str
    loud: bool = False


class Said(Observation):
    text: str


class Guessing(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()

    def reset(self, seed=None, episode_id=None, hint="none", **others):
        self._state = State(step_count=0)
        self.number = (seed or 0) % 5
        return Said(text=f"Guess a number below 5. Hint: {hint}.", done=False, reward=None)

    def step(self, action, timeout_s=None, **others):
        self._state.step_count += 1
        if action.message == "sleep":
            time.sleep(3)
        if action.message == "raise":
            raise ValueError("no such thing")
        right = action.message.strip() == str(self.number)
        text = "right" if right else f"not {action.message}"
        return Said(text=text.upper() if action.loud else text, done=right, reward=1.0 if right else -0.1)

    @property
    def state(self):
        return self._state


def tools_environment():
    from fastmcp import FastMCP
    from openenv.core.env_server.mcp_environment import MCPEnvironment

    server = FastMCP("tools")

    @server.tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool
    def fail() -> str:
        """Fails."""
        raise ValueError("too cold")

    class Adding(MCPEnvironment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self):
            super().__init__(server)
            self._state = State()

        def reset(self, seed=None, episode_id=None, **others):
            self._state = State(step_count=0)
            return Observation(done=False, reward=None)

        def _step_impl(self, action, timeout_s=None, **others):
            return Observation(done=False, reward=0.0, metadata={"error": "no such action"})

        @property
        def state(self):
            return self._state

    return Adding


if __name__ == "__main__":
    if len(sys.argv) > 2:
        from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

        app = create_fastapi_app(tools_environment(), CallToolAction, CallToolObservation, max_concurrent_envs=64)
    else:
        app = create_fastapi_app(Guessing, Guess, Said, max_concurrent_envs=64)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
