"""Two reward functions of one's own, one in TRL's form and one in verl's, as recipes/jsonl_example.yaml names them."""

import re


def right(completions, answer, **columns):
    """TRL's form, one call for many outputs: 1 if the last number is the answer, None (no opinion) if there is none."""
    return [
        None if wanted is None else float(numbers(text)[-1:] == [str(wanted)])
        for text, wanted in zip(completions, answer, strict=True)
    ]


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """verl's form, one call an output: 1 for a text of one number, else 0; what else the dict holds is recorded too."""
    found = numbers(solution_str)
    return {"score": float(len(found) == 1), "numbers": len(found)}


def numbers(text):
    """The whole numbers in a text, as strings."""
    return re.findall(r"\d+", text)


def counting(text, question):
    """Our form, with the rewards of steps: each digit is a step, right while each is one more than the digit before it.

    The first one follows the question's last digit; behind a wrong one nothing is right, or "1234" would be worth three
    quarters whatever was asked. A step is the place where it ends and its reward."""
    before = numbers(question.text)[-1][-1] + text
    right, holds = [], True
    for a, b in zip(before, text, strict=False):
        holds = holds and b.isdigit() and int(b) == (int(a) + 1) % 10
        right.append(float(holds))
    return {"score": sum(right) / max(1, len(right)), "steps": [[end, value] for end, value in enumerate(right, 1)]}
