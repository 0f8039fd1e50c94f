"""A reward model's scores and gradients are transformers' own, however its readings are laid out."""

from dataclasses import replace

import pytest
import torch

from groupwise.config import ModelConfig
from groupwise.errors import ModelError
from groupwise.model.reading import Reading
from groupwise.model.reward_model import SEQUENCES, TOKENS, load_classifier, logits, pieces, values
from groupwise.model.tokenizer import load_tokenizer
from tests.close import close
from tests.model import build
from tests.model.classifiers import ENCODER, classifier, plain, random_groups, saved

KINDS = {"sequence": SEQUENCES, "token": TOKENS}
STREAMED = ("llama", "gpt2", "mistral_window", "qwen3")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [*STREAMED, "gemma2", "bert"])
def test_scores_are_those_of_transformers_padded_forward_pass(family, kind, tmp_path, tiny_folder):
    config = ENCODER if family == "bert" else build.SHARING[family]
    policy = classifier(config, KINDS[kind], tmp_path, tiny_folder)
    assert policy.question_once is (family != "bert")
    if family != "gemma2":  # whose own mask is nan in fp64
        policy.model.double()
    groups = random_groups(places=1 if kind == "sequence" else 4)
    with torch.no_grad():
        expected = plain(policy, [reading for group in groups for reading in group])
    assert float(expected.abs().max()) > 0.1
    for tokens in (1, 30, 10**6):
        close(torch.cat(values(policy, groups, tokens=tokens)).float(), expected)  # some norms are in fp32 always


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("recompute", ["nothing", "cheap", "layers"])
def test_the_gradient_is_that_of_transformers_padded_forward_pass(kind, once, recompute, tmp_path, tiny_folder):
    policy = classifier(build.SHARING["gpt2"], KINDS[kind], tmp_path, tiny_folder)
    policy.model.double()
    groups = random_groups(places=1 if kind == "sequence" else 4)
    plain(policy, [reading for group in groups for reading in group]).square().sum().backward()
    expected = [p.grad.clone() for p in policy.model.parameters() if p.grad is not None]
    policy.model.zero_grad()
    own = replace(policy, question_once=once, recompute=recompute)
    for rows in pieces(groups, 30, question_once=once):
        with logits(own, [groups[row] for row in rows]) as found:
            found.square().sum().backward()
    gradients = [p.grad for p in policy.model.parameters() if p.grad is not None]
    assert len(gradients) == len(expected)
    for found, wanted in zip(gradients, expected, strict=True):
        close(found, wanted)


def test_a_place_may_be_asked_twice_and_answers_may_end_with_the_question(tmp_path, tiny_folder):
    policy = classifier(build.SHARING["llama"], TOKENS, tmp_path, tiny_folder)
    groups = [[Reading((5, 6, 7), (2, 2)), Reading((5, 6), (0, 1))], [Reading((9, 8), (1,))]]
    expected = plain(policy, [reading for group in groups for reading in group])
    close(torch.cat(values(policy, groups)), expected.detach())


def test_readings_that_begin_apart_need_nothing_in_common(tmp_path, tiny_folder):
    policy = classifier(build.SHARING["llama"], SEQUENCES, tmp_path, tiny_folder)
    groups = [[Reading((5, 6, 7), (2,)), Reading((9, 6), (1,))]]
    close(values(policy, groups)[0], plain(policy, groups[0]).detach())


def test_no_pair_is_cut_however_short_a_piece_may_be():
    groups = random_groups(places=1)
    for once in (False, True):
        assert sorted(row for piece in pieces(groups, 1, question_once=once) for row in piece) == [0, 1, 2]
        assert all(len(piece) == 1 for piece in pieces(groups, 1, question_once=once))
        assert len(pieces(groups, 10**6, question_once=once)) == 1


def test_a_head_of_a_language_model_is_drawn_from_the_seed_and_its_padding_is_named(tiny_folder):
    config = ModelConfig(path=str(tiny_folder), device="cpu")
    tokenizer = load_tokenizer(config)
    heads = [load_classifier(config, tokenizer, kind=SEQUENCES, seed=seed).model.score.weight for seed in (0, 0, 1)]
    close(heads[0], heads[1])
    assert not heads[0].equal(heads[2])
    labelled = load_classifier(config, tokenizer, kind=TOKENS, seed=0).model
    assert labelled.config.num_labels == 2
    assert labelled.config.pad_token_id == 1


def test_a_model_without_a_head_is_no_reward_model(tiny_folder):
    config = ModelConfig(path=str(tiny_folder), device="cpu")
    with pytest.raises(
        ModelError, match=r"1 weights are not in its files, score\.weight for one; give the folder of a"
    ):
        load_classifier(config, load_tokenizer(config), kind=SEQUENCES)


def test_a_classifier_of_the_other_kind_is_refused(tmp_path, tiny_folder):
    config = ModelConfig(path=str(saved(build.SHARING["llama"], TOKENS, tmp_path, tiny_folder)), device="cpu")
    with pytest.raises(ModelError, match=r"a token-classification checkpoint; give a sequence-classification one"):
        load_classifier(config, load_tokenizer(config), kind=SEQUENCES, seed=0)


def test_a_classifier_of_more_labels_learns_no_reward(tmp_path, tiny_folder):
    folder = saved(build.SHARING["llama"], SEQUENCES, tmp_path, tiny_folder, labels=3)
    config = ModelConfig(path=str(folder), device="cpu")
    with pytest.raises(ModelError, match=r"it has 3 labels, and what is learned here has 1; start from"):
        load_classifier(config, load_tokenizer(config), kind=SEQUENCES, seed=0)


def test_a_classifier_keeps_its_own_number_of_labels(tmp_path, tiny_folder):
    policy = classifier(build.SHARING["llama"], TOKENS, tmp_path, tiny_folder, labels=1)
    assert values(policy, random_groups(places=4))[0].shape[1] == 1


def test_without_a_padding_token_rows_are_read_one_by_one(tmp_path, tiny_folder):
    policy = classifier(build.SHARING["llama"], SEQUENCES, tmp_path, tiny_folder)
    groups = random_groups(places=1)
    expected = torch.cat(values(policy, groups))
    policy.model.config.pad_token_id = None
    close(torch.cat(values(replace(policy, question_once=False), groups)), expected)
