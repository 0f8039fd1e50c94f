"""Judges on this machine: a language model in the reward's own process, by the text that it writes or by the
probability of its next token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from groupwise.config import ModelConfig
from groupwise.data import Message, Question
from groupwise.errors import RewardError
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.registry import nearest
from groupwise.rewards.judging.cache import Cache, Reply
from groupwise.rewards.judging.endpoint import JudgeError
from groupwise.rewards.judging.judge import Asked, Scored, compared, given, graded, pairing, whole
from groupwise.rewards.judging.prompts import Chat, chat
from groupwise.rewards.judging.rubric import OF_ONE, OF_TWO, load_rubric

READS = ("text", "probability")


class LocalJudge:
    """The grade that a language model on this machine gives each output by a rubric, 0 to 1.

    read: `text`, the greedy reply read as an endpoint's is, or `probability`, sum_l P(l) v_l / sum_l P(l) over the
    labels' values, with P(l) the probability that the reply begins with label l. path: a folder, a run or a hub name.
    labels: words to their values from 0 to 1 (yes 1, no 0). max_tokens, rereads: of the replies that are read as text.
    """

    def __init__(
        self,
        *,
        rubric: str,
        path: str,
        read: str = "text",
        labels: Mapping[str, float] | None = None,
        max_tokens: int = 512,
        rereads: int = 2,
        device: str = "auto",
        chat_template: str | None = None,
        trust_remote_code: bool | None = None,
    ) -> None:
        self._rubric = load_rubric(rubric, OF_ONE)
        self._read = _named(read)
        self._values = _labels({"yes": 1.0, "no": 0.0} if labels is None else labels)
        self._model = _Model(path, device, chat_template, trust_remote_code, max_tokens)
        self._labels = self._model.first_tokens(self._values) if self._read == "probability" else {}
        self._asked = Asked(
            self._model.reply, {"path": path, "max_tokens": max_tokens}, rereads=rereads, cache=Cache(None)
        )

    async def __call__(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Scored]:
        if self._read == "text":
            return await graded(self._asked, self._rubric, texts, questions)
        wanted = f"Reply with one word: {' or '.join(self._values)}."
        found: list[Scored] = []
        for text, question in zip(texts, questions, strict=True):
            try:
                texts_of = {**given(self._rubric, question), "output": text}
                found.append(self._scored(chat(self._rubric, texts_of, reply=wanted)))
            except (ValueError, JudgeError) as error:
                found.append(error)
        return found

    def _scored(self, messages: Chat) -> Scored:
        chances = self._model.chances(messages, self._labels)
        spoken = sum(chances.values())
        return {"score": sum(self._values[label] * p for label, p in chances.items()) / spoken, "labels": spoken}


class LocalPairwiseJudge:
    """How often a language model on this machine prefers an output to others of its group, 0 to 1.

    read: `text`, its greedy choice, or `probability`, P(A) / (P(A) + P(B)) with the first of two as A. Other params as
    for `pairwise_judge` and `local_judge`.
    """

    def __init__(
        self,
        *,
        rubric: str,
        path: str,
        read: str = "text",
        scores: str = "win_rate",
        pairs_per_output: int | None = None,
        max_tokens: int = 512,
        rereads: int = 2,
        device: str = "auto",
        chat_template: str | None = None,
        trust_remote_code: bool | None = None,
    ) -> None:
        self._rubric, self._pairing = load_rubric(rubric, OF_TWO), pairing(scores, pairs_per_output)
        self._read = _named(read)
        self._model = _Model(path, device, chat_template, trust_remote_code, max_tokens)
        self._labels = self._model.first_tokens({"A": 1.0, "B": 0.0}) if self._read == "probability" else {}
        self._asked = Asked(
            self._model.reply, {"path": path, "max_tokens": max_tokens}, rereads=rereads, cache=Cache(None)
        )

    async def __call__(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Scored]:
        judged = self._asked.choice if self._read == "text" else self._preference
        return await compared(judged, self._rubric, self._pairing, texts, questions, reply=_reply(self._read))

    async def _preference(self, messages: Chat) -> float:
        chances = self._model.chances(messages, self._labels)
        return chances["A"] / (chances["A"] + chances["B"])


class _Model:
    """A language model that replies to conversations."""

    def __init__(self, path: str, device: str, chat_template: str | None, trust: bool | None, max_tokens: int) -> None:
        config = ModelConfig(path=path, device=device, chat_template=chat_template, trust_remote_code=trust)
        self._tokenizer = load_tokenizer(config, section="params")
        self._policy: Policy = load_policy(config, self._tokenizer)
        self._max_tokens = whole("max_tokens", max_tokens, least=1)

    async def reply(self, messages: Chat) -> Reply:
        """The greedy reply. Raises JudgeError if the conversation does not fit the model."""
        tokens = self._encoded(messages, self._max_tokens)
        with torch.no_grad(), self._policy.autocast():
            made: Any = self._policy.model.generate(
                torch.tensor([tokens], device=self._policy.device),
                attention_mask=torch.ones(1, len(tokens), dtype=torch.long, device=self._policy.device),
                do_sample=False,
                max_new_tokens=self._max_tokens,
                eos_token_id=sorted(self._tokenizer.end_tokens),
                pad_token_id=min(self._tokenizer.end_tokens),
            )
        said = made[0, len(tokens) :].tolist()
        return Reply(self._tokenizer.decode(said), len(tokens), len(said))

    def chances(self, messages: Chat, labels: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """The probability that a reply begins with each label. Raises JudgeError as `reply` does."""
        tokens = self._encoded(messages, 1)
        with torch.no_grad(), self._policy.autocast():
            logits = self._policy.model(torch.tensor([tokens], device=self._policy.device), use_cache=False).logits
        chances = logits[0, -1].float().softmax(-1)
        found = {label: float(chances[list(ids)].sum()) for label, ids in labels.items()}
        if not sum(found.values()) > 0:
            raise JudgeError(f"the model gives none of {', '.join(labels)} any probability")
        return found

    def first_tokens(self, labels: Mapping[str, float]) -> dict[str, list[int]]:
        """The tokens that a reply may begin with for each label, with and without a space in front.

        Raises RewardError if two labels begin alike."""
        tokenizer = self._tokenizer.tokenizer
        begins = {
            label: {tokenizer.encode(form, add_special_tokens=False)[0] for form in (label, f" {label}")}
            for label in labels
        }
        # a tokenizer may write the space alone, which begins no label more than another
        found = {label: sorted(t for t in ids if tokenizer.decode([t]).strip()) for label, ids in begins.items()}
        seen: dict[int, str] = {}
        for label, ids in found.items():
            for token in ids:
                if seen.setdefault(token, label) != label:
                    raise RewardError(
                        f"params.read = 'probability': {seen[token]!r} and {label!r} begin with the same token of this "
                        "model",
                        hint="choose params.labels that begin differently, or read: text",
                    )
        return found

    def _encoded(self, messages: Chat, more: int) -> list[int]:
        tokens = self._tokenizer.encode([Message(_role(m["role"]), m["content"]) for m in messages])
        if len(tokens) + more > self._tokenizer.context:
            raise JudgeError(
                f"the rubric and its texts have {len(tokens):,} tokens, with {more} to come; the judge's context is "
                f"{self._tokenizer.context:,}"
            )
        return tokens


def _role(name: str) -> Any:
    return name


def _reply(read: str) -> str | None:
    return (
        None if read == "text" else "Which is better, the FIRST (A) or the SECOND (B)? Reply with one letter: A or B."
    )


def _named(read: str) -> str:
    if read not in READS:
        raise RewardError(f"params.read = {read!r}: no such name", hint=nearest(str(read), READS))
    return read


def _labels(labels: Any) -> dict[str, float]:
    sound = isinstance(labels, Mapping) and len(labels) > 1
    words = {str({True: "yes", False: "no"}.get(word, word)): value for word, value in labels.items()} if sound else {}
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in words.values())
    if not words or not numbers or not all(word.strip() for word in words):
        raise RewardError(
            f"params.labels = {labels!r}: not two or more words with values from 0 to 1", hint="labels: {yes: 1, no: 0}"
        )
    return words
