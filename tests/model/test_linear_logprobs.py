"""Log-probabilities from hidden states do not depend on the chunks that they are computed in."""

import pytest
import torch

from groupwise.model.linear_logprobs import CHUNK_BYTES, backward_by_chunks, linear_logprobs, token_scores
from groupwise.objective.logprobs import entropy, token_logprobs
from tests.close import close

TOKENS, WIDTH, VOCABULARY = 11, 6, 17


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(WIDTH, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
    return hidden, head, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


def whole_loss(logprobs: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
    """Depends on each token's log-probability alone, and on its entropy."""
    return logprobs.cos().sum() + entropies.sin().sum()


def mixed_loss(logprobs: torch.Tensor, entropies: torch.Tensor) -> torch.Tensor:
    """Depends on products of different tokens' log-probabilities."""
    return logprobs.sum().cos() + (logprobs * logprobs.flip(0)).sum()


def of_chunks(tokens: int) -> int:
    """The vocabulary whose logits of so many tokens fill a chunk."""
    return CHUNK_BYTES // (4 * tokens)


def backward(hidden, head, tokens, loss, *, chunk=TOKENS, **settings):
    return backward_by_chunks(
        hidden.detach(),
        tokens,
        logits=lambda states, _: states @ head,
        vocabulary=of_chunks(chunk),
        loss=loss,
        **settings,
    )


@pytest.mark.parametrize("chunk", [1, 3, 10, 11, 100])
@pytest.mark.parametrize(("loss", "per_token"), [(whole_loss, True), (whole_loss, False), (mixed_loss, False)])
def test_the_chunk_changes_neither_values_nor_gradients(chunk, loss, per_token):
    hidden, head, tokens = made()
    logits = hidden @ head
    expected = torch.autograd.grad(loss(token_logprobs(logits, tokens), entropy(logits)), [hidden, head])
    scored, slope = backward(
        hidden, head, tokens, loss, chunk=chunk, per_token=per_token, entropy_gradient=loss is whole_loss
    )
    alone = linear_logprobs(hidden, tokens, logits=lambda states, _: states @ head, vocabulary=of_chunks(chunk))
    for found in (scored, alone):
        assert close(found.logprobs, token_logprobs(logits, tokens))
        assert close(found.entropies, entropy(logits))
    assert close(slope, expected[0])
    assert close(head.grad, expected[1])


def test_a_loss_that_mixes_tokens_is_not_one_per_token():
    # the claim `per_token` is the caller's; made wrongly it gives another gradient, so it is tested for every loss
    hidden, head, tokens = made()
    slopes = [
        backward(hidden, head, tokens, mixed_loss, chunk=3, per_token=per_token, entropy_gradient=False)[1]
        for per_token in (True, False)
    ]
    assert not torch.allclose(*slopes, rtol=0.01)


def test_the_logits_are_computed_once_or_twice():
    hidden, head, tokens = made()
    given = []

    def logits(states, own):
        given.append(own)
        return states @ head

    for per_token, times in ((True, 1), (False, 2)):
        given.clear()
        backward_by_chunks(
            hidden.detach(), tokens, logits=logits, vocabulary=of_chunks(4), loss=lambda logprobs, _: logprobs.sum(),
            per_token=per_token, entropy_gradient=False,
        )  # fmt: skip
        assert [len(own) for own in given] == [4, 4, 3] * times
        assert close(torch.cat(given), tokens.repeat(times))


def test_dropped_tokens_add_nothing_to_the_entropy_and_have_no_gradient():
    hidden, head, tokens = made()
    logits = (hidden @ head).detach()
    dropped = torch.zeros_like(logits, dtype=torch.bool)
    dropped[:, ::3] = True
    dropped.scatter_(1, tokens[:, None], False)
    masked = logits.masked_fill(dropped, -torch.inf).requires_grad_()
    expected = torch.autograd.grad(whole_loss(token_logprobs(masked, tokens), entropy(masked)), masked)[0]
    again = logits.masked_fill(dropped, -torch.inf).requires_grad_()
    scored = token_scores(again.clone(), tokens, entropy_gradient=True)
    assert close(scored.entropies, entropy(masked))
    found = torch.autograd.grad(whole_loss(*scored), again)[0]
    assert close(found, expected)
    assert not found[dropped].any()


def test_logits_of_any_size_have_finite_scores_and_those_of_the_readable_twin():
    # exp(1000) is inf: the largest is taken off first
    logits = torch.tensor([[1000.0, 999.0, -1000.0], [-1000.0, -1000.0, -1001.0]], dtype=torch.float64)
    tokens = torch.tensor([1, 2])
    scored = token_scores(logits.clone(), tokens, entropy_gradient=False)
    assert close(scored.logprobs, token_logprobs(logits, tokens))
    assert close(scored.entropies, entropy(logits))


def test_scores_of_bf16_logits_are_fp32():
    _, _, tokens = made()
    logits = torch.linspace(-9, 9, TOKENS * VOCABULARY).sin().mul(4).view(TOKENS, VOCABULARY).bfloat16()
    scored = token_scores(logits.clone(), tokens, entropy_gradient=False)
    states = torch.zeros(TOKENS, WIDTH, dtype=torch.bfloat16)
    alone = linear_logprobs(states, tokens, logits=lambda *_: logits.clone(), vocabulary=of_chunks(TOKENS))
    for found in (scored, alone):
        assert found.logprobs.dtype == found.entropies.dtype == torch.float32
        assert close(found.logprobs, token_logprobs(logits.float(), tokens))
        assert close(found.entropies, entropy(logits.float()))


def test_no_tokens_give_no_numbers():
    hidden, head, tokens = made()
    found = linear_logprobs(hidden[:0], tokens[:0], logits=lambda states, _: states @ head, vocabulary=VOCABULARY)
    assert found.logprobs.shape == found.entropies.shape == (0,)
