"""The engine that a recipe names: built, opened, given the policy's weights, closed whatever happens."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from groupwise import registry
from groupwise.config.sections import RolloutConfig
from groupwise.engines.base import Capabilities, Engine
from groupwise.model.policy import Policy


def capabilities_of(rollout: RolloutConfig) -> Capabilities:
    """What may be relied on in the engine that `rollout.engine` names; nothing is built. Raises ConfigError."""
    found: Capabilities = registry.load(registry.ENGINES, rollout.engine, "rollout.engine").capabilities
    return found


@contextmanager
def open_engine(policy: Policy, rollout: RolloutConfig, *, version: int = 0) -> Iterator[Engine]:
    """The engine that `rollout.engine` names, sampling from the policy. version: optimizer steps that it has done."""
    engine: Engine = registry.load(registry.ENGINES, rollout.engine, "rollout.engine")(
        policy, max_rows=rollout.max_rows
    )
    try:
        engine.open()
        engine.sync(policy, version)
        yield engine
    except BaseException:
        with suppress(Exception):  # the first error is the one to hear of
            engine.close()
        raise
    engine.close()
