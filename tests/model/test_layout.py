"""Where tokens lie in the rows that a model reads, worked by hand."""

import torch

from groupwise.model import attention
from groupwise.model.attention import Block, BlockPlan, Form
from groupwise.model.batch import Rollouts
from groupwise.model.layout import question_once, questions_alone, separate
from tests.close import close
from tests.model import build


def two_groups() -> Rollouts:
    """Question 5 6 with outputs 7 and 8 9; question 4 with outputs 3 2 1 and 10."""
    return Rollouts.of(
        [
            build.group([build.output([5, 6], [7]), build.output([5, 6], [8, 9])], [0.0, 1.0]),
            build.group([build.output([4], [3, 2, 1]), build.output([4], [10])], [0.0, 1.0]),
        ]
    )


def test_separate_rows_are_the_outputs_and_a_token_is_predicted_from_the_one_before():
    layout = separate(two_groups())
    assert close(layout.tokens, [[5, 6, 7, 0], [5, 6, 8, 9], [4, 3, 2, 1], [4, 10, 0, 0]])
    assert layout.positions is None  # those that every model takes for granted
    assert layout.blocks is None
    # row 1 begins at place 4: its token 9 (column 3) is predicted at place 4 + 2
    assert layout.predictors[1, 3] == 6
    assert layout.predictors[0, 2] == 1


def test_a_stream_is_each_question_and_then_its_outputs_each_at_its_own_place_in_the_conversation():
    layout = question_once(two_groups())
    assert close(layout.tokens, [[5, 6, 7, 8, 9, 4, 3, 2, 1, 10]])
    assert close(layout.positions, [[0, 1, 2, 2, 3, 0, 1, 2, 3, 1]])
    # the first token of every output is predicted by the question's last; the second group begins at place 5
    assert layout.predictors[0, 2] == 1
    assert close(layout.predictors[1, 2:4], [1, 3])
    assert close(layout.predictors[2, 1:4], [5, 6, 7])
    assert layout.predictors[3, 1] == 5


def test_an_output_sees_the_question_and_itself_and_no_sibling():
    assert question_once(two_groups()).blocks == (
        Block(0, 2),
        Block(2, 3, 0, 2),
        Block(3, 5, 0, 2),
        Block(5, 6),
        Block(6, 9, 5, 6),
        Block(9, 10, 5, 6),
    )


def test_an_output_without_tokens_has_no_block():
    rollouts = Rollouts.of([build.group([build.output([5], [6]), build.output([5], [], finish="error")], [0.0, None])])
    layout = question_once(rollouts)
    assert close(layout.tokens, [[5, 6]])
    assert layout.blocks == (Block(0, 1), Block(1, 2, 0, 1))


def test_groups_need_not_be_side_by_side():
    rollouts = two_groups()
    mixed = rollouts[torch.tensor([3, 0, 2, 1])]
    layout = question_once(mixed)
    assert close(layout.tokens, [[4, 10, 3, 2, 1, 5, 6, 7, 8, 9]])
    assert layout.predictors[2, 1] == 0  # output 3 2 1 after question 4
    assert layout.predictors[3, 2] == 5 + 1  # output 8 9 after question 5 6


def test_questions_alone_lie_behind_each_other():
    tokens, positions, blocks = questions_alone([(4, 5, 6), (7,), (8, 9)])
    assert close(tokens, [[4, 5, 6, 7, 8, 9]])
    assert close(positions, [[0, 1, 2, 0, 0, 1]])
    assert blocks == (Block(0, 3), Block(3, 4), Block(4, 6))


def test_a_device_without_grouped_attention_attends_alike(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 9, 8, generator=generator) for heads in (6, 2, 2))
    blocks = (Block(0, 4), Block(4, 7, 0, 4), Block(7, 9, 0, 4))
    found = []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(attention, "UNGROUPED", devices)
        found.append(BlockPlan(blocks).attend(0, query, key, value, Form(0.3)))
    assert close(*found)


def test_what_fills_a_stream_stands_at_no_place_beyond_the_conversations():
    # rotary positions of some kinds change for a whole call past its largest place
    layout = question_once(two_groups(), fill=True)
    assert layout.tokens.shape == (1, 16)  # 10 tokens and 6 behind them
    assert close(layout.positions[0, 10:], [0] * 6)
