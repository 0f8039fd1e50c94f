"""Attention by C functions is the block plan's own, forward and backward."""

import pytest
import torch

from groupwise.model.attention import Block, BlockPlan, Form
from groupwise.model.stream_attention import attend, attend_backward, functions

pytestmark = pytest.mark.skipif(functions() is None, reason="no C compiler here")

BLOCKS = (Block(0, 70), Block(70, 115, 0, 70), Block(115, 116, 0, 70), Block(116, 119), Block(119, 152, 116, 119))
"""Two questions, of 70 and 3 tokens, and outputs of 45, 1 and 33."""


def both(size, heads, groups, window):
    """(ours, the plan's) of output and gradients, each a list of [S, numbers], the plan's in fp64."""
    generator, form = torch.Generator().manual_seed(size), Form(0.3, None, window)
    sizes = (heads, groups, groups, heads)
    query, key, value, slope = (torch.randn(BLOCKS[-1].end, n * size, generator=generator) * 2 for n in sizes)
    plan = BlockPlan(BLOCKS)
    out, sums = attend(plan, query, key, value, size=size, form=form)
    ours = [out, *attend_backward(plan, slope, query, key, value, out, sums, size=size, form=form)]

    given = [tensor.double().requires_grad_() for tensor in (query, key, value)]
    heads_of = [tensor.view(1, len(tensor), -1, size).transpose(1, 2) for tensor in given]
    expected = plan.attend(0, *heads_of, form).flatten(2)[0]
    return ours, [expected.detach(), *torch.autograd.grad(expected, given, slope.double())]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("window", [None, 2, 20, 71])
@pytest.mark.parametrize(("size", "heads", "groups"), [(64, 4, 2), (16, 3, 1), (80, 2, 2)])
def test_output_and_gradients_are_the_plans(size, heads, groups, window, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for found, expected in zip(*both(size, heads, groups, window), strict=True):
            assert (found - expected).norm() <= 1e-5 * expected.norm()
    finally:
        torch.set_num_threads(before)


def test_a_score_far_above_the_others_takes_all_the_weight():
    # scores of 100 x 64 apart: exp() of the lower one is 0 and not nan, and no gradient reaches it
    query, value = torch.full((2, 64), 100.0), torch.arange(2.0).repeat_interleave(64).view(2, 64)
    key = torch.tensor([1.0, -1.0]).repeat_interleave(64).view(2, 64)
    plan, settings = BlockPlan((Block(0, 2),)), {"size": 64, "form": Form(1.0)}
    out, sums = attend(plan, query, key, value, **settings)
    assert not out.any()
    slope = torch.ones(2, 64)
    by_query, by_key, by_value = attend_backward(plan, slope, query, key, value, out, sums, **settings)
    assert not by_query.any()
    assert not by_key.any()
    assert by_value[:, 0].tolist() == [2.0, 0.0]
