"""Chat templates of well-known families: turns end in what is exported, reasoning is learned, tags are kept."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, pipeline

from groupwise.config import ModelConfig
from groupwise.data import Example, Message, Sampling
from groupwise.engines.base import Task, generate
from groupwise.engines.local import LocalEngine
from groupwise.errors import ModelError
from groupwise.model.checkpoint import save_checkpoint
from groupwise.model.loading import load_policy
from groupwise.model.template import audit
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from tests.model.templates import FAMILIES, tokenizer_of

REASONED = "<think>\nOne and one.\n</think>\n\nIt is 2."


def chat(name, **settings) -> ChatTokenizer:
    tokenizer = tokenizer_of(name, **settings)
    return ChatTokenizer("m", tokenizer, audit(tokenizer, [], where="m"), LlamaConfig(), 512)


def turns(*contents):
    roles = ["user", "assistant"] * len(contents)
    return tuple(Message(role, content) for role, content in zip(roles, contents, strict=False))


def taught(tokenizer, *contents, **fields):
    """(what is read, what is learned) of each sequence, as text."""
    sequences = tokenizer.encode_example(Example("rows.jsonl:7", turns(*contents), **fields))
    found = []
    for tokens, learned in sequences:
        last = len(learned) - learned[::-1].index(True)
        first = last - next((n for n, is_learned in enumerate(learned[:last][::-1]) if not is_learned), last)
        found.append(tuple(tokenizer.decode_all(part) for part in (tokens[:first], tokens[first:last])))
    return found


def write_chain(folder, name, text, **settings):
    """A model that says the text behind its family's generation prompt, and goes on with "x" for ever."""
    tokenizer = tokenizer_of(name, **settings)
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size + size % 2,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1 + 1"}], add_generation_prompt=True, return_dict=False
    )
    chain = [prompt[-1], *tokenizer(text, add_special_tokens=False)["input_ids"]]
    follows = dict(pairwise(chain))
    assert len(follows) == len(chain) - 1, "each token once"
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for token in range(size):
            model.lm_head.weight[follows.get(token, tokenizer.convert_tokens_to_ids("x")), token] = 9
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_exported_model_ends_its_turn_under_plain_transformers(name, tmp_path):
    write_chain(tmp_path / "begin", name, f"so 2{FAMILIES[name].end}")
    config = ModelConfig(path=str(tmp_path / "begin"), device="cpu")
    policy = load_policy(config, load_tokenizer(config))
    prompt = policy.tokenizer.encode(turns("1 + 1"))
    [[output]] = generate(LocalEngine(policy), [Task(tuple(prompt), (1,))], Sampling(20, greedy=True))
    assert (output.text, output.finish) == ("so 2", "stop")
    hf = policy.tokenizer.tokenizer
    save_checkpoint(tmp_path / "end", model=policy.model, tokenizer=hf, optimizer=None, state={})
    model, tokenizer = (auto.from_pretrained(tmp_path / "end") for auto in (AutoModelForCausalLM, AutoTokenizer))
    assert tokenizer.chat_template == FAMILIES[name].template
    said = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0, len(prompt) :]
    assert said.tolist() == output.tokens.tolist()
    asked = [{"role": "user", "content": "1 + 1"}]
    speaks = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    [answered] = speaks(asked, max_new_tokens=20, do_sample=False)
    assert answered["generated_text"][-1]["content"] == "so 2"


def test_a_recipes_own_template_ends_its_turns_in_the_export(tmp_path):
    write_chain(tmp_path / "begin", "phi3", "so 2")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "begin")
    file = tmp_path / "own.jinja"
    file.write_text(FAMILIES["phi3"].template.replace("<|end|>", "<|system|>"))
    config = ModelConfig(path=str(tmp_path / "begin"), device="cpu", chat_template=str(file))
    policy = load_policy(config, load_tokenizer(config))
    hf = policy.tokenizer.tokenizer
    save_checkpoint(tmp_path / "end", model=policy.model, tokenizer=hf, optimizer=None, state={})
    ends = AutoModelForCausalLM.from_pretrained(tmp_path / "end").generation_config.eos_token_id
    assert sorted(ends) == sorted(tokenizer.convert_tokens_to_ids(["<|system|>", "<|endoftext|>"]))
    assert AutoTokenizer.from_pretrained(tmp_path / "end").chat_template == file.read_text()


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking", "r1"])
def test_a_reasoning_is_learned_as_generation_would_write_it(name, special):
    tokenizer = chat(name, tags_are_special=special)
    [(read, learned)] = taught(tokenizer, "1 + 1", REASONED)
    assert read == tokenizer.decode_all(tokenizer.encode(turns("1 + 1")))
    begun = tokenizer.template.opening
    assert begun + learned == REASONED + FAMILIES[name].end
    assert (begun == "") == (name == "qwen3")
    # and with the tokens that it would be sampled with, tags among them
    [(tokens, marks)] = tokenizer.encode_example(Example("r:1", turns("1 + 1", REASONED)))
    written = [token for token, is_learned in zip(tokens, marks, strict=True) if is_learned]
    assert written.count(tokenizer.tokenizer.convert_tokens_to_ids("</think>")) == 1
    assert tokenizer.decode(written) == learned.removesuffix(FAMILIES[name].end)


def test_each_turn_is_learned_where_its_template_drops_earlier_reasoning():
    for name, begun in (("qwen3", ""), ("r1", "<think>\n")):
        end = FAMILIES[name].end
        tokenizer = chat(name)
        first, second = taught(tokenizer, "1 + 1", REASONED, "and 2 + 2", REASONED.replace("2", "4"))
        assert first == (tokenizer.decode_all(tokenizer.encode(turns("1 + 1"))), (REASONED + end).removeprefix(begun))
        context = tokenizer.decode_all(tokenizer.encode(turns("1 + 1", REASONED, "and 2 + 2")))
        assert "One and one" not in context
        assert second == (context, (REASONED.replace("2", "4") + end).removeprefix(begun))
        assert taught(tokenizer, "1 + 1", REASONED, "and 2 + 2", REASONED, prompt_messages=3)[0][0] == context


def test_turns_without_reasoning_are_one_sequence():
    sequences = chat("chatml").encode_example(Example("r:1", turns("1 + 1", "2", "2 + 2", "4")))
    assert len(sequences) == 1
    # an empty reasoning is written with the last answer alone, so each of these is learned with its own
    assert [learned for _, learned in taught(chat("qwen3"), "1 + 1", "2", "2 + 2", "4")] == [
        "<think>\n\n</think>\n\n2<|im_end|>",
        "<think>\n\n</think>\n\n4<|im_end|>",
    ]


def test_an_answer_that_does_not_go_on_from_an_opened_reasoning_is_refused():
    with pytest.raises(ModelError) as caught:
        taught(chat("r1"), "1 + 1", "It is 2.")
    assert str(caught.value).startswith(
        "rows.jsonl:7: the chat template's prompt ends with '<think>\\n', and message 2"
    )
    assert "write its reasoning into it" in caught.value.hint
    [(_, learned)] = taught(chat("r1"), "1 + 1", "One and one.</think>It is 2.")
    assert learned == "One and one.</think>It is 2." + FAMILIES["r1"].end


def test_tags_that_are_special_tokens_stay_in_the_text_and_ends_do_not():
    for name, tags in (("qwen3", ("<think>", "</think>")), ("mistral", ("[THINK]", "[/THINK]"))):
        tokenizer = chat(name, tags_are_special=True)
        assert set(tokenizer.template.tags) == set(tags)
        text = f"{tags[0]}a{tags[1]} b"
        tokens = [*tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"], *sorted(tokenizer.end_tokens)]
        assert tokenizer.decode(tokens) == text
        assert tokenizer.decode_all(tokens) != text
    # what opens a turn is no tag: nobody's text writes it
    assert not {"[INST]", "<|im_start|>"} & {*chat("mistral").template.tags, *chat("chatml").template.tags}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_prompt_has_said_is_found(name):
    expected = {"qwen3_thinking": "<think>\n", "r1": "<think>\n"}
    assert chat(name).template.opening == expected.get(name, "")


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("opening", "said", "learned"),
    [
        ("[THINK]", "[THINK]One.[/THINK]2", "One.[/THINK]2"),
        ("◁think▷", "◁think▷One.◁/think▷2", "One.◁/think▷2"),
        ("<think>\\n\\n</think>\\n\\n", "2", "2"),
        ("", "<think>1 < 2 > 1</think>2", "<think>1 < 2 > 1</think>2"),
    ],
)
def test_other_tags_and_a_reasoning_that_the_prompt_closes(opening, said, learned, special, monkeypatch):
    close = next((tag for tag in ("[/THINK]", "◁/think▷") if tag in said), "</think>")
    family = FAMILIES["chatml"]
    template = family.template.replace("m['content']", f"m['content'].split('{close}')[-1]")
    template = template.replace("assistant\n'", f"assistant\n{opening}'")
    tags = (close, close.replace("/", ""))
    monkeypatch.setitem(FAMILIES, f"cuts {opening}", replace(family, template=template, plain=tags))
    tokenizer = chat(f"cuts {opening}", tags_are_special=special)
    assert tokenizer.template.opening == opening.replace("\\n", "\n")
    [(read, written)] = taught(tokenizer, "1 + 1", said)
    assert (read, written) == (tokenizer.decode_all(tokenizer.encode(turns("1 + 1"))), learned + "<|im_end|>")
