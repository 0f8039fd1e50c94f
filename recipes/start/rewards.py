"""How good an answer is: plain functions in the form that TRL uses. Higher is better; None leaves an answer out."""


def right(completions, answer, **columns):
    """1 for an answer that begins with the right digit. `answer` is that column of questions.jsonl, one per answer.

    In two tokens there is room for little else. With longer answers "7 or 8" would be paid too: compare all of the text
    (`groupwise attack rewards.py:right --data questions.jsonl` shows what a reward pays for)."""
    return [1.0 if text.startswith(wanted) else 0.0 for text, wanted in zip(completions, answer, strict=True)]
