"""Where a run stands, as a checkpoint keeps it."""

import json
from dataclasses import fields

from groupwise.run.journal import State


def test_a_checkpoint_keeps_all_of_the_state_but_what_is_tried_again():
    state = State(
        step=3,
        policy_version=6,
        seconds=1.5,
        tokens=100,
        drawn=7,
        base="ab",
        coefficients={"kl_coef": 0.2},
        moments={"right": [2, 0.5, 0.1]},
        unrecorded_steps={2, 1},
    )
    again = State.of(json.loads(json.dumps(state.kept())))
    assert again == state
    new = State.of({})
    assert new == State()
    kept = [item.name for item in fields(State) if item.name != "unrecorded"]
    assert all(getattr(state, name) != getattr(new, name) for name in kept)  # none was left out above
