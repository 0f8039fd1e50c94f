"""Where the final answer of a text is: behind its reasoning, in a tag, in a box, on a last line."""

import re
from collections.abc import Iterator

_NAMES = "think|thinking|thought|thoughts|reason|reasoning|analysis|scratchpad|seed:think"
_MARK = re.compile(
    rf"<\s*(?P<tag_end>/?)\s*(?P<tag>{_NAMES})(?:\s[^<>]*)?>"
    rf"|\[(?P<bracket_end>/?)(?P<bracket>{_NAMES})\]"
    rf"|◁(?P<kimi_end>/?)(?P<kimi>{_NAMES})▷"
    rf"|<\|(?P<bar_end>/?)(?P<bar>{_NAMES})\|>"
    r"|<\|(?:begin|(?P<sky_end>end))_of_(?P<sky>thought)\|>"
    r"|<\|(?:start|(?P<command_end>end))_(?P<command>thinking)\|>",
    re.IGNORECASE,
)
"""Marks that open and close reasoning, in any case: R1, Qwen3 and most others; Seed-OSS, Magistral, Kimi, Sky-T1,
Command A. Of each a name, and a sign of the end that is empty where it opens."""
_FORMS = ("tag", "bracket", "kimi", "bar", "sky", "command")
# gpt-oss: <|channel|>analysis<|message|>.. <|channel|>final<|message|>..
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w*)[^<]*<\|message\|>")
_END_OF_TURN = re.compile(r"<\|(?:return|end|call|start)\|>")

_TAG = re.compile(r"<answer\s*>((?:(?!<answer\s*>).)*?)</answer\s*>", re.DOTALL | re.IGNORECASE)
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[\\{}]|[{}]")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;，、；]|\\[()]|and|or|和|或|與|及)*")


def answer_part(text: str) -> str:
    """The text without its reasoning, "" where that never ends: an answer is looked for in what this returns.

    What stands between two marks of reasoning goes, and so does all in front of a closing mark without an opening one,
    which the chat template may have written. Of a text in channels the last `final` one counts."""
    channels = list(_CHANNEL.finditer(text)) if "<|channel|>" in text else []
    if channels:
        if channels[-1][1] != "final":
            return ""
        return _END_OF_TURN.split(text[channels[-1].end() :])[0]
    kept, start, inside = "", 0, ""
    for match in _MARK.finditer(text):
        mark, closes = _mark(match)
        if inside and closes and mark == inside:
            inside, start = "", match.end()
        elif not inside and closes:
            kept, start = "", match.end()
        elif not inside:
            kept, inside = kept + text[start : match.start()], mark
    return "" if inside else kept + text[start:]


def _mark(match: "re.Match[str]") -> tuple[str, bool]:
    """The form and the name of a mark of reasoning, and whether it closes."""
    form = next(name for name in _FORMS if match[name] is not None)
    return f"{form} {match[form].lower()}", bool(match[f"{form}_end"])


def extract(text: str) -> str:
    """The final answer in a text: behind its reasoning the last <answer>..</answer>, in it the last \\boxed{}, else a
    last line `#### ..`; where there is none of them all that follows the reasoning.

    Boxes with nothing but commas or `and` between them are one list. Surrounding white space is dropped."""
    return final(answer_part(text)).strip()


def final(part: str) -> str:
    """The final answer in a text without reasoning, with its white space."""
    found = tagged_or_boxed(part)
    last_line = found.rstrip().rpartition("\n")[2].lstrip()
    # GSM8K's convention; only on the last line, since #### also begins a Markdown heading.
    return last_line[4:] if re.match("####(?!#)", last_line) else found


def tagged_or_boxed(part: str) -> str:
    """The last tag's content, in it the last box's; without either the whole text."""
    found = tagged(part)
    found = part if found is None else found
    closed = list(_closed_boxes(found))
    if not closed:
        return found
    contents = [found[slice(*closed[-1])]]
    for before, after in zip(closed[-2::-1], closed[:0:-1], strict=True):
        opening = found.rfind("\\", before[1], after[0])
        if opening < 0 or not _BETWEEN_BOXES.fullmatch(found, before[1] + 1, opening):
            break
        contents.insert(0, found[slice(*before)])
    return ", ".join(contents)


def tagged(part: str) -> str | None:
    """What the last <answer> holds; None without one."""
    found = _TAG.findall(part)
    return found[-1] if found else None


def boxes(text: str) -> list[str]:
    r"""The contents of every closed \boxed{}, in the order in which they open; braces are matched, \{ is no brace."""
    return [text[start:end] for start, end in _closed_boxes(text)]


def _closed_boxes(text: str) -> Iterator[tuple[int, int]]:
    opened: list[tuple[int, bool]] = []
    closed: list[tuple[int, int]] = []
    for match in _BRACE.finditer(text):
        token = match.group()
        if token == "}":
            if opened:
                start, boxed = opened.pop()
                if boxed:
                    closed.append((start, match.start()))
        elif token[-1] == "{" and token != r"\{":
            opened.append((match.end(), token != "{"))
    yield from sorted(closed)
