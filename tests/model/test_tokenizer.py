"""What stands before a model: its tokenizer, end tokens and context; what is wrong with a path is said in one line."""

import json
import shutil

import pytest

from groupwise.config import ModelConfig
from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.tokenizer import first_line, load_tokenizer

ASKED = [Message("user", "2+2=?")]


@pytest.fixture
def folder(tmp_path, tiny_folder):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def test_a_question_is_encoded_up_to_where_the_assistant_speaks_and_decoded_without_special_tokens(tiny_folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    tokens = tokenizer.encode(ASKED)
    names = tokenizer.tokenizer.convert_ids_to_tokens(tokens)
    assert names == ["<user>", "2", "+", "2", "=", "?", "<end>", "<assistant>"]
    assert tokenizer.decode(tokens) == "<user>2+2=?<assistant>"
    assert tokenizer.context == 512
    assert tokenizer.source == str(tiny_folder)


def test_every_end_token_of_the_generation_config_counts(folder):
    assert load_tokenizer(ModelConfig(path=str(folder))).end_tokens == {2}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9]}))
    assert load_tokenizer(ModelConfig(path=str(folder))).end_tokens == {2, 9}


def test_a_folder_without_a_generation_config_will_do(folder):
    (folder / "generation_config.json").unlink()
    assert load_tokenizer(ModelConfig(path=str(folder))).end_tokens == {2}


def test_a_recipes_template_replaces_the_tokenizers(folder, tmp_path):
    file = tmp_path / "template.jinja"
    file.write_text(
        "{% for m in messages %}{{ '<' + m['role'] + '>say ' + m['content'] + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>say ' }}{% endif %}"
    )
    tokenizer = load_tokenizer(ModelConfig(path=str(folder), chat_template=str(file)))
    assert tokenizer.decode(tokenizer.encode(ASKED)) == "<user>say 2+2=?<assistant>say "
    file.write_text("{{ messages[0]['role'] }}")
    with pytest.raises(ModelError, match="leaves the user's message out"):
        load_tokenizer(ModelConfig(path=str(folder), chat_template=str(file)))
    with pytest.raises(ModelError, match=r"model.chat_template = '/nowhere/t.jinja': .*No such file"):
        load_tokenizer(ModelConfig(path=str(folder), chat_template="/nowhere/t.jinja"))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tinny", "model.path = 'tinny': no such folder or built-in model; did you mean 'tiny'?"),
        ("/no/such/folder", "no such folder"),
        ("~/model", "no such folder"),
        ("nobody/nothing", "model.path = 'nobody/nothing'"),  # a hub name, and no network
    ],
)
def test_a_path_to_nothing_is_named(path, said):
    with pytest.raises(ModelError) as caught:
        load_tokenizer(ModelConfig(path=path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", None, "no config.json there; give a folder with config.json"),
        ("config.json", "{", "model.path = "),
        ("config.json", '{"model_type": "novel"}', "model.path = "),
        ("tokenizer.json", "{", "model.path = "),
    ],
)
def test_a_damaged_folder_is_named(folder, file, text, said):
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(ModelConfig(path=str(folder)))
    assert said in str(caught.value)


def test_a_foreign_error_is_cut_to_one_short_line():
    assert first_line(ValueError("  one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 1000))) == 300
