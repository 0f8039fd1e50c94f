"""The last layer's logits are fp32 where the other products are bf16, and so is what is learned from them."""

import pytest
import torch
from torch import nn

from groupwise.model.last_layer import WideProduct, handing_over, kept_copy, wide_logits, wide_product
from tests.close import close


def test_a_logit_is_not_rounded_to_bf16():
    # 16 + 1/16 takes 9 bits behind the first; bf16 has 7, and would give 16
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    states = torch.tensor([[16.0, 0.0625]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(states).item() == 16.0
        assert wide_logits(layer, states, torch.bfloat16).item() == 16.0625
        assert WideProduct.apply(states, layer.weight, layer.weight.bfloat16()).item() == 16.0625


def test_in_fp32_the_layer_itself_is_asked():
    layer = nn.Linear(3, 2)
    layer.forward = lambda states: states + 1  # type: ignore[method-assign]
    assert wide_logits(layer, torch.ones(2), torch.float32).tolist() == [2.0, 2.0]


def test_the_gradients_of_a_wide_product_are_those_of_the_rounded_factors():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 5, generator=generator).requires_grad_() for n in (4, 7))
    slope = torch.randn(4, 7, generator=generator).bfloat16()
    WideProduct.apply(x, weight, weight.detach().bfloat16()).backward(slope.float())
    assert close(x.grad, slope.float() @ weight.bfloat16().float())
    assert close(weight.grad, slope.float().t() @ x.bfloat16().float())


def test_a_frozen_weight_gets_no_gradient():
    x, weight = torch.randn(4, 5, requires_grad=True), torch.randn(7, 5)
    WideProduct.apply(x, weight, weight.bfloat16()).sum().backward()
    assert x.grad is not None
    assert weight.grad is None


def test_a_kept_copy_is_gone_afterwards():
    from groupwise.model.last_layer import _copies

    layer = nn.Linear(2, 2, bias=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groupwise.model.last_layer._keeps_factors_narrow", lambda layer: True)
        with kept_copy(layer, torch.bfloat16), kept_copy(layer, torch.bfloat16):
            assert _copies[layer].dtype == torch.bfloat16
            assert wide_logits(layer, torch.ones(1, 2), torch.bfloat16).dtype == torch.float32
        assert layer not in _copies


def test_batches_come_back_in_fp32():
    assert wide_product(*torch.ones(2, 3, 2, 2).bfloat16()).dtype == torch.float32


def test_states_are_handed_over_once_and_the_layer_is_itself_again():
    layer, states, given = nn.Linear(3, 2), torch.ones(4, 3), []
    with handing_over(layer, lambda states: given.append(layer(states))):
        assert layer(states).shape == (4, 1)  # a 0 in the place of a row of logits
        assert layer(states).shape == (4, 2)
    assert torch.equal(given[0], layer(states))
    assert "forward" not in vars(layer)


def test_a_layer_whose_forward_is_replaced_has_the_same_one_afterwards():
    layer = nn.Linear(3, 2)
    layer.forward = other = lambda states: states + 1  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError), handing_over(layer, lambda states: None):
        raise ZeroDivisionError
    assert layer.forward is other
