"""The choice of matrix products is made once for a processor and a model's shapes, and kept."""

import json

import torch
from torch import nn

from groupwise.model import fastest
from groupwise.model.fastest import fastest_of, measured, products_for, shapes_of
from groupwise.model.products import OneDnnLinear, use_products

CPU = torch.device("cpu")


def model_of(*sizes):
    return nn.Sequential(*(nn.Linear(into, out) for out, into in sizes))


def on_x86(monkeypatch, tmp_path, seconds):
    """A cache folder of its own, and a clock that gives these seconds; the calls it was asked for."""
    asked = []
    monkeypatch.setenv("GROUPWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(fastest, "SMALL", 100)
    monkeypatch.setattr(fastest, "fastest_products", lambda device: "packed" if device.type == "cpu" else "torch")
    monkeypatch.setattr(fastest, "measured", lambda shapes: asked.append(dict(shapes)) or seconds)
    return asked


def test_what_was_measured_is_kept_for_these_shapes_and_threads(monkeypatch, tmp_path):
    asked = on_x86(monkeypatch, tmp_path, {"packed": 2.0, "onednn": 1.0, "mixed": 1.5})
    model = model_of((64, 32), (64, 32))
    assert products_for(model, CPU) == products_for(model, CPU) == "onednn"
    assert asked == [{(64, 32): 2}]
    products_for(model_of((64, 48)), CPU)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    products_for(model, CPU)
    assert len(asked) == 3
    kept = [json.loads(path.read_text())["matmul_backend"] for path in (tmp_path / "products").glob("*.json")]
    assert kept == ["onednn"] * 3


def test_small_models_and_other_devices_are_not_measured(monkeypatch, tmp_path):
    asked = on_x86(monkeypatch, tmp_path, {})
    assert products_for(model_of((9, 9)), CPU) == "packed"
    assert products_for(model_of((64, 32)), torch.device("meta")) == "torch"
    assert asked == []


def test_a_damaged_file_is_measured_again(monkeypatch, tmp_path):
    asked = on_x86(monkeypatch, tmp_path, {"packed": 2.0, "onednn": 3.0, "mixed": 1.5})
    model = model_of((64, 32))
    products_for(model, CPU)
    (file,) = (tmp_path / "products").glob("*.json")
    for text in ("", "[]", '{"matmul_backend": "cublas"}'):
        file.write_text(text)
        assert products_for(model, CPU) == "mixed"
    assert len(asked) == 4


def test_a_hair_faster_is_not_faster():
    assert fastest_of({"packed": 1.0, "onednn": 0.96, "mixed": 2.0}, "packed") == "packed"
    assert fastest_of({"packed": 1.0, "onednn": 0.94, "mixed": 0.9}, "packed") == "mixed"


def test_every_choice_is_measured_on_the_shapes_of_linear_layers(monkeypatch):
    monkeypatch.setattr(fastest, "_ROWS", 8)
    model = model_of((64, 32), (32, 64), (64, 32))
    use_products(model, "onednn")
    assert isinstance(model[0], OneDnnLinear)
    assert shapes_of(model) == {(64, 32): 2, (32, 64): 1}
    assert all(value > 0 for value in measured(shapes_of(model)).values())
