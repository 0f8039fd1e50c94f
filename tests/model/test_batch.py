"""A step's outputs as tensors, and how they are cut into micro-batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.model.batch import Batch, Rollouts, microbatches, whole_groups
from groupwise.model.layout import question_once, separate
from tests.close import close
from tests.model import build


def two_groups() -> Rollouts:
    """Question 5 6 with outputs 7 (reward 1) and 8 9 (no reward); question 4 with 3 2 1 and 10 (rewards 0.5 and 0)."""
    sampled = np.array([True, False, True])  # a tool said 2
    logprobs = np.array([-0.5, 0.0, -0.25], dtype=np.float32)
    return Rollouts.of(
        [
            build.group([build.output([5, 6], [7]), build.output([5, 6], [8, 9])], [1.0, None]),
            build.group(
                [build.output([4], [3, 2, 1], sampled=sampled, logprobs=logprobs), build.output([4], [10])], [0.5, 0.0]
            ),
        ]
    )


def test_rollouts_are_padded_on_the_right_and_aligned_with_their_tokens():
    rollouts = two_groups()
    assert close(rollouts.tokens, [[5, 6, 7, 0], [5, 6, 8, 9], [4, 3, 2, 1], [4, 10, 0, 0]])
    assert close(rollouts.output_mask.int(), [[0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 0]])
    assert close(rollouts.sampled_logprobs[2], [0, -0.5, 0, -0.25])
    assert close(rollouts.question_lengths, [2, 2, 1, 1])
    assert close(rollouts.lengths, [3, 4, 4, 2])
    assert close(rollouts.rewards, [1.0, torch.nan, 0.5, 0.0])
    assert close(rollouts.group, [0, 0, 1, 1])


def test_chosen_rows_are_cut_to_the_longest_of_them():
    rows = torch.tensor([3, 0])
    chosen = two_groups()[rows]
    assert close(chosen.tokens, [[4, 10, 0], [5, 6, 7]])
    assert close(chosen.output_mask.int(), [[0, 1, 0], [0, 0, 1]])
    assert close(chosen.lengths, [2, 3])
    assert close(chosen.group, [1, 0])
    whole = two_groups()
    values = torch.arange(16.0).view(4, 4)
    batch = Batch(whole, whole.output_mask, values, old_logprobs=None, ref_logprobs=-values)[rows]
    assert len(batch) == 2
    assert close(batch.advantages, [[12, 13, 14], [0, 1, 2]])
    assert batch.ref_logprobs is not None
    assert close(batch.ref_logprobs, -batch.advantages)
    assert batch.old_logprobs is None
    assert batch.mask.shape == (2, 3)


def test_an_output_of_no_tokens_has_a_row_and_no_mask():
    outputs = [build.output([5, 6], [], finish="error"), build.output([5, 6], [7])]
    rollouts = Rollouts.of([build.group(outputs, [None, 1.0])])
    assert close(rollouts.lengths, [2, 3])
    assert not rollouts.output_mask[0].any()


def test_a_question_counts_once_if_it_is_computed_once():
    # question 10, outputs of 5 5 5 5: 30 tokens shared, 60 in rows of their own
    group = [build.output([3] * 10, [4] * 5) for _ in range(4)]
    rollouts = Rollouts.of([build.group(group, [0.0] * 4)])
    assert [sorted(rows.tolist()) for rows in microbatches(rollouts, 30, question_once=True)] == [[0, 1, 2, 3]]
    assert [len(rows) for rows in microbatches(rollouts, 29, question_once=True)] == [2, 2]
    assert [len(rows) for rows in microbatches(rollouts, 60, question_once=False)] == [4]
    assert [len(rows) for rows in microbatches(rollouts, 59, question_once=False)] == [3, 1]


def test_a_group_stays_together_when_its_rows_are_mixed_with_others():
    # two groups of question 10 and four outputs of 5: one piece of 30 tokens each, in whatever order the rows are
    groups = [build.group([build.output([q] * 10, [4] * 5) for _ in range(4)], [0.0] * 4) for q in (5, 6)]
    mixed = Rollouts.of(groups)[torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])]
    pieces = microbatches(mixed, 30, question_once=True)
    assert [mixed.group[rows].tolist() for rows in pieces] == [[0] * 4, [1] * 4]


def test_a_long_group_is_cut_into_parts_of_like_length():
    # Limit 12: question 5 is cut into 1 + 9 = 10 and 1 + 3 + 3 = 7 tokens; question 6 is 1 + 1 + 2 = 4.
    long = build.group([build.output([5], [9] * n) for n in (3, 9, 3)], [0.0] * 3)
    short = build.group([build.output([6], [9] * n) for n in (1, 2)], [0.0] * 2)
    rollouts = Rollouts.of([long, short])
    pieces = microbatches(rollouts, 12, question_once=True)
    assert [question_once(rollouts[rows]).tokens.numel() for rows in pieces] == [10, 7 + 4]
    assert [rows.tolist() for rows in pieces] == [[1], [0, 2, 3, 4]]


def test_a_question_longer_than_the_limit_stands_with_one_output_at_a_time():
    rollouts = Rollouts.of([build.group([build.output([5] * 20, [9] * n) for n in (3, 1)], [0.0] * 2)])
    assert [rows.tolist() for rows in microbatches(rollouts, 12, question_once=True)] == [[0], [1]]


def test_streams_are_filled_without_padding_and_alike():
    # groups of 1 + 2 + 2 = 5, 1 + 9 + 1 = 11 and 1 + 1 + 1 = 3 tokens under a limit of 18: 8 and 11, not 16 and 3
    groups = [
        build.group([build.output([q], [9] * n) for n in sizes], [0.0] * 2)
        for q, sizes in ((5, (2, 2)), (6, (9, 1)), (7, (1, 1)))
    ]
    pieces = microbatches(Rollouts.of(groups), 18, question_once=True)
    assert [sorted(rows.tolist()) for rows in pieces] == [[2, 3], [0, 1, 4, 5]]


def test_only_what_is_too_long_stands_alone():
    # questions of 1 token; outputs of 30, longer than the limit, and of 4, 4 and 4 in another group
    sizes = ((5, (30, 2)), (6, (4, 4, 4)))
    groups = [build.group([build.output([q], [9] * n) for n in answers], [0.0] * len(answers)) for q, answers in sizes]
    pieces = microbatches(Rollouts.of(groups), 16, question_once=True)
    assert [rows.tolist() for rows in pieces] == [[0], [1, 2, 3, 4]]


def test_outputs_without_tokens_are_in_a_piece_too():
    rollouts = Rollouts.of([build.group([build.output([5, 6], []) for _ in range(3)], [0.0] * 3)])
    assert [rows.tolist() for rows in microbatches(rollouts, 8, question_once=True)] == [[0, 1, 2]]


def test_outputs_of_like_length_go_together():
    # rows of 2, 11, 3 and 12 tokens
    outputs = [build.output([3], [4] * n) for n in (1, 10, 2, 11)]
    rollouts = Rollouts.of([build.group(outputs, [0.0] * 4)])
    assert [rows.tolist() for rows in microbatches(rollouts, 24, question_once=False)] == [[0, 2], [1, 3]]


@pytest.mark.parametrize("once", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.lists(st.integers(1, 20), min_size=2, max_size=6)), max_size=4),
    limit=st.integers(1, 80),
    seed=st.integers(0, 5),
)
def test_each_row_is_in_one_piece_and_a_piece_keeps_the_limit(once, sizes, limit, seed):
    if not sizes:
        return
    groups = [
        build.group([build.output([index + 1] * asked, [9] * n) for n in answers], [0.0] * len(answers))
        for index, (asked, answers) in enumerate(sizes)
    ]
    rollouts = Rollouts.of(groups)
    count = len(rollouts.lengths)
    rollouts = rollouts[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    pieces = microbatches(rollouts, limit, question_once=once)
    assert sorted(torch.cat(pieces).tolist()) == list(range(count))
    for rows in pieces:
        piece = rollouts[rows]
        layout = question_once(piece) if once else separate(piece)
        assert layout.tokens.numel() <= limit or len(rows) == 1


def test_whole_groups_are_never_cut_and_fill_their_pieces():
    # groups of 2 with questions of 2, 2, 1 tokens and outputs of 1 to 3: 5, 7, 5 tokens as streams
    rollouts = Rollouts.of(
        [
            build.group([build.output([5, 6], [7]), build.output([5, 6], [8, 9])], [0.0, 0.0]),
            build.group([build.output([4, 4], [3, 2, 1]), build.output([4, 4], [9, 9])], [0.0, 0.0]),
            build.group([build.output([4], [3, 2, 1]), build.output([4], [10])], [0.0, 0.0]),
        ]
    )

    def cut(tokens, question_once):
        return [rows.tolist() for rows in whole_groups(rollouts, tokens, question_once=question_once)]

    assert cut(1, True) == [[0, 1], [2, 3], [4, 5]]
    assert cut(12, True) == [[0, 1, 2, 3], [4, 5]]
    assert cut(11, True) == [[0, 1], [2, 3], [4, 5]]
    assert cut(17, True) == [[0, 1, 2, 3, 4, 5]]
    # padded: longest rows 4, 5, 4, so two groups of 4 first: 4 rows of 4, then 6 rows of 5
    assert cut(1, False) == [[0, 1], [4, 5], [2, 3]]
    assert cut(16, False) == [[0, 1, 4, 5], [2, 3]]
    assert cut(15, False) == [[0, 1], [4, 5], [2, 3]]
    assert cut(30, False) == [[0, 1, 4, 5, 2, 3]]
