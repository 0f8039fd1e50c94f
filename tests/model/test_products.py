"""Linear layers give the same numbers whichever library multiplies."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from groupwise.model import products
from groupwise.model.products import OneDnnLinear, fastest_products, find_siblings, packed_weights, use_products
from tests.close import close

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN products"
)
CPU = torch.device("cpu")


def layer(*, bias: bool) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(33, 19, bias=bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(33,), (1, 33), (70, 33), (2, 5, 33)])
def test_outputs_and_gradients_are_pytorchs(shape, bias):
    results = []
    for library in ("torch", "packed", "onednn", "mixed"):
        linear = layer(bias=bias)
        use_products(nn.Sequential(linear), library)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = linear(x)
        y.sin().sum().backward()
        results.append([y, x.grad, *(parameter.grad for parameter in linear.parameters())])
    for one, *others in zip(*results, strict=True):
        assert all(close(one, other) for other in others)


def test_a_frozen_weight_has_no_gradient():
    linear = layer(bias=True)
    use_products(nn.Sequential(linear), "onednn")
    linear.requires_grad_(False)
    x = torch.randn(4, 33).requires_grad_()
    linear(x).sum().backward()
    assert x.grad is not None
    assert linear.weight.grad is linear.bias.grad is None


def test_other_precisions_go_the_usual_way():
    linear = layer(bias=True).double()
    use_products(nn.Sequential(linear), "onednn")
    x = torch.randn(4, 33, dtype=torch.float64)
    assert close(linear(x), nn.functional.linear(x, linear.weight, linear.bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(bias=True)(x.float()).dtype == torch.bfloat16


def test_weights_and_names_stay_and_the_way_back_is_open():
    model = nn.Sequential(layer(bias=True), nn.ReLU())
    before = model.state_dict()
    use_products(model, "onednn")
    assert type(model[0]) is OneDnnLinear
    assert model.state_dict().keys() == before.keys()
    assert model[0].weight is not None
    use_products(model, "torch")
    assert type(model[0]) is nn.Linear


def test_layers_of_another_kind_are_left_alone():
    class Own(nn.Linear):
        def forward(self, input):
            return super().forward(input) + 1

    model = nn.Sequential(Own(3, 3))
    use_products(model, "onednn")
    assert type(model[0]) is Own


def test_packed_weights_are_the_weights_and_are_gone_afterwards():
    linear = layer(bias=True)
    model = nn.Sequential(linear)
    use_products(model, "onednn")
    x = torch.randn(17, 33)
    with torch.no_grad():
        expected = linear(x)
        with packed_weights(model):
            assert linear.packed is not None
            assert close(linear(x), expected)
        assert linear.packed is None
        linear.weight.mul_(2)
        assert not torch.allclose(linear(x), expected)
    with pytest.raises(ZeroDivisionError), packed_weights(model):
        1 / 0  # noqa: B018
    assert linear.packed is None


@pytest.mark.parametrize(
    ("vectors", "family", "machine", "expected"),
    [
        ("AVX512", 26, "x86_64", "onednn"),
        ("AVX512", 25, "x86_64", "mixed"),  # Zen 4, whose vector units are half as wide
        ("AVX512", 0, "x86_64", "packed"),
        ("AVX2", 25, "AMD64", "packed"),
        ("DEFAULT", 0, "aarch64", "torch"),
    ],
)
def test_the_choice_is_by_the_processor(vectors, family, machine, expected, monkeypatch):
    monkeypatch.setattr(products.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(products, "_amd_family", lambda: family)
    assert fastest_products(CPU) == expected
    assert fastest_products(torch.device("meta")) == "torch"


class Siblings(nn.Module):
    """Two layers of one input, with and without a bias, and one of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.after = nn.Linear(33, 19), nn.Linear(33, 5, bias=False), nn.Linear(24, 7)

    def forward(self, x):
        return self.after(torch.cat([self.one(x), self.two(x)], -1))


def test_layers_of_one_input_are_found_and_multiplied_as_one():
    torch.manual_seed(0)
    model = Siblings()
    x = torch.randn(9, 33)
    with torch.no_grad():
        expected, again = model(x), model(2 * x)
        use_products(model, "onednn")
        find_siblings(model, lambda: model(x))
        assert model.one.siblings == model.two.siblings == (model.one, model.two)
        assert model.after.siblings == (model.after,)
        with packed_weights(model):
            assert model.one.packed is model.two.packed is not model.after.packed
            assert close(model(x), expected)
            assert close(model(2 * x), again)
            # in another order, alone, and twice with the same tensor whose values have changed
            assert close(model.two(x), nn.functional.linear(x, model.two.weight))
            x.mul_(2)
            assert close(model.two(x), nn.functional.linear(x, model.two.weight))


def test_few_numbers_of_rows_reach_the_library_and_the_rows_added_change_nothing():
    # a kernel is kept for each shape: as many as there are numbers of rows would fill the memory between the tensors
    sizes = {products.rounded(rows) for rows in range(1, 1537)}
    assert len(sizes) == 44  # 8 up to 64, 12 up to 256, 8 up to 512, 16 up to 1536
    for rows in (1, 8, 57, 64, 65, 500, 513, 1000):
        x = torch.randn(rows, 5, generator=torch.Generator().manual_seed(rows))
        filled = products._filled(x)
        assert torch.equal(filled[:rows], x)
        assert not filled[rows:].any()
        assert len(filled) - rows < max(8, rows / 4)


def test_what_a_layer_gives_may_be_written_over():
    linear = layer(bias=True)
    use_products(nn.Sequential(linear), "onednn")
    x = torch.randn(57, 33, generator=torch.Generator().manual_seed(1))
    y = linear(x)  # 57 rows are filled up to 64
    y.sub_(1.0).sum().backward()
    assert torch.allclose(linear.bias.grad, torch.full((19,), 57.0))


def test_a_frozen_weight_keeps_no_input_and_has_no_product_of_its_own():
    linear = layer(bias=True)
    use_products(nn.Sequential(linear), "onednn")
    x = torch.randn(64, 33, generator=torch.Generator().manual_seed(1), requires_grad=True)
    kept, slopes = [], []
    for frozen in (False, True):
        linear.weight.requires_grad_(not frozen)
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=shapes: (s.append(tuple(t.shape)), t)[1], lambda t: t
        ):
            y = linear(x)
        kept.append(shapes)
        slopes.append(torch.autograd.grad(y.sum(), x)[0])
    assert kept == [[(64, 33), (19, 33)], [(19, 33)]]
    assert torch.equal(*slopes)


@pytest.mark.parametrize("library", ["packed", "onednn", "mixed"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_gradient_added_in_place_is_the_gradient(monkeypatch, times, library):
    monkeypatch.setattr(products, "_SLICE", 4)  # of 19 rows
    found = {}
    for in_place in (False, True):
        linear = layer(bias=True)
        use_products(nn.Sequential(linear), library)
        linear.weight.grad = torch.ones_like(linear.weight)
        held = linear.weight.grad
        for seed in range(times):
            x = torch.randn(70, 33, generator=torch.Generator().manual_seed(seed))
            with products.gradients_in_place() if in_place else nullcontext():
                linear(x).sin().sum().backward()
        found[in_place] = linear.weight.grad, linear.bias.grad
        assert linear.weight.grad is held
    assert all(close(one, other) for one, other in zip(found[False], found[True], strict=True))


def test_without_a_gradient_to_add_to_one_is_made():
    linear = layer(bias=False)
    use_products(nn.Sequential(linear), "onednn")
    with products.gradients_in_place():
        linear(torch.ones(8, 33)).sum().backward()
    assert close(linear.weight.grad, torch.full((19, 33), 8.0))


def test_packed_weights_in_bf16_are_near_and_their_bias_too():
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bf16 products")
    linear = layer(bias=True)
    model = nn.Sequential(linear)
    use_products(model, "onednn")
    x = torch.randn(5, 33, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), packed_weights(model, torch.bfloat16):
        found = linear(x)
    expected = nn.functional.linear(x, linear.weight, linear.bias).detach()
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.03)
    assert linear.packed is None
