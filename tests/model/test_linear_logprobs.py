"""Log-probabilities from hidden states do not depend on the chunks that they are computed in."""

import pytest
import torch

from groupwise.model import linear_logprobs as module
from groupwise.model.linear_logprobs import linear_logprobs
from groupwise.objective.logprobs import entropy, token_logprobs
from tests.close import close

TOKENS, WIDTH, VOCABULARY = 11, 6, 17


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(WIDTH, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
    return hidden, head, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


def scored(hidden, head, tokens, *, entropy_gradient=True):
    return linear_logprobs(
        hidden, tokens, logits=lambda states, _: states @ head, vocabulary=VOCABULARY, entropy_gradient=entropy_gradient
    )


@pytest.mark.parametrize("chunk", [1, 3, 10, 11, 100])
def test_the_chunk_changes_neither_values_nor_gradients(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * VOCABULARY * chunk)
    hidden, head, tokens = made()
    logits = hidden @ head
    whole = token_logprobs(logits, tokens).cos().sum() + entropy(logits).sin().sum()
    logprobs, entropies = scored(hidden, head, tokens)
    assert close(logprobs, token_logprobs(logits, tokens))
    assert close(entropies, entropy(logits))
    expected = torch.autograd.grad(whole, [hidden, head])
    found = torch.autograd.grad(logprobs.cos().sum() + entropies.sin().sum(), [hidden, head])
    for left, right in zip(found, expected, strict=True):
        assert close(left, right)


def test_the_tokens_of_a_chunk_go_with_its_states(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * VOCABULARY * 4)
    hidden, head, tokens = made()
    given = []

    def logits(states, own):
        given.append(own)
        return states @ head

    with torch.no_grad():
        linear_logprobs(hidden, tokens, logits=logits, vocabulary=VOCABULARY, entropy_gradient=False)
    assert [len(own) for own in given] == [4, 4, 3]
    assert close(torch.cat(given), tokens)


def test_the_entropy_has_a_gradient_only_if_asked_for():
    hidden, head, tokens = made()
    assert scored(hidden, head, tokens).entropies.requires_grad
    asked_not = scored(hidden, head, tokens, entropy_gradient=False)
    assert not asked_not.entropies.requires_grad
    assert asked_not.logprobs.requires_grad
    with torch.no_grad():
        assert not scored(hidden, head, tokens).entropies.requires_grad


def test_no_tokens_give_no_numbers():
    hidden, head, tokens = made()
    logprobs, entropies = scored(hidden[:0], head, tokens[:0])
    assert logprobs.shape == entropies.shape == (0,)
