"""The parts of a step that are alike in every stage that samples: its questions, its rollout, its batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from groupwise.config import Recipe
from groupwise.data import Group, Question
from groupwise.datasets.base import batch as questions_of_step
from groupwise.datasets.base import following
from groupwise.learn.agreement import Agreement
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.learn.make_batch import make_batch
from groupwise.model.batch import Batch, Rollouts
from groupwise.model.traits import routes_tokens
from groupwise.objective.surrogate import Objective
from groupwise.rollout.evaluate import correct_label, part_value
from groupwise.rollout.groups import Rollout, sample_groups, sample_until_signal
from groupwise.run.judged import check_judged
from groupwise.run.loop import check_rewards
from groupwise.run.open import Run


def sample_step(run: Run) -> Rollout:
    """The step's questions, each sampled `group_size` times and rewarded; with refill rounds until enough have signal.

    Raises RewardLimitError, having recorded the step, if too many rewards failed or no output ever gets one.
    """
    recipe = run.recipe

    def sample(questions: Sequence[Question]) -> Rollout:
        return sample_groups(
            run.tokenizer,
            questions,
            engine=run.engine,
            rewards=run.rewards,
            sampling=recipe.rollout.sampling(),
            group_size=recipe.rollout.group_size,
            seed=recipe.seed,
            step=run.step,
            policy_version=run.policy_version,
        )

    assert recipe.questions is not None
    wanted, rounds = recipe.rollout.questions_per_step, recipe.rollout.refill_rounds
    train, shuffle = run.questions.train, recipe.questions.shuffle
    if rounds:
        draw = _Drawing(run, shuffle=shuffle)
        rollout = sample_until_signal(
            draw, sample, separated=lambda group: separated(group, recipe), wanted=wanted, rounds=rounds
        )
        rollout = replace(rollout, drawn=draw.drawn)
    else:
        rollout = sample(
            questions_of_step(train, run.step, questions_per_step=wanted, seed=recipe.seed, shuffle=shuffle)
        )
    check_rewards(run, rollout)
    check_judged(run, rollout)
    return rollout


def separated(group: Group, recipe: Recipe) -> bool:
    """True if the reward that says what is right (`evaluate.correct`) has two different values in the group.

    Not the whole reward: a length or a form that differs among wrong answers is no reason to keep them (DAPO, eq. 11).
    """
    values = {part_value(sample.reward, correct_label(recipe)) for sample in group.samples}
    return len(values - {None}) > 1


def batch_of(run: Run, rollout: Rollout, *, objective: Objective, auxiliary: AuxiliaryModels) -> Batch:
    """The rollout as a batch of the recipe's settings; where no group was kept, one of them with nothing to learn."""
    recipe, device, nothing = run.recipe, run.policy.device, not rollout.update_groups
    groups = rollout.update_groups or rollout.groups[:1]
    truncated = [
        nothing or (recipe.update.mask_truncated and s.output.finish == "length") for g in groups for s in g.samples
    ]
    return make_batch(
        run.policy,
        Rollouts.of(groups, device, labels=[reward.label for reward in recipe.rewards]),
        objective=objective,
        auxiliary=auxiliary,
        sampling=recipe.rollout.sampling(),
        truncated=torch.tensor(truncated, device=device),
        exact_engine=run.engine.exact,
        config=recipe.update,
        reward_weights=tuple(reward.weight for reward in recipe.rewards),
    )


def agreement_of(run: Run, groups: Sequence[Group]) -> Agreement | None:
    """What a step's first update is held to; None where the engine does not claim to be exact.

    Rounding may tip a scale, and so be made large, at the edge of top-p or min-p, or where a router sends a token to
    another expert.
    """
    if not run.engine.exact or run.policy.precision != torch.float32:
        return None
    sampling = run.recipe.rollout.sampling()
    smooth = sampling.top_p >= 1 and not sampling.min_p and not routes_tokens(run.policy.model.config)
    return Agreement(groups, run.step, run.tokenizer.decode, smooth)


class _Drawing:
    """Gives a step its next questions, none twice, and counts how many it took from the order."""

    def __init__(self, run: Run, *, shuffle: bool) -> None:
        self._run, self._shuffle, self._seen, self.drawn = run, shuffle, set[str](), 0

    def __call__(self, wanted: int) -> list[Question]:
        run, found = self._run, list[Question]()
        while len(found) < wanted and len(self._seen) < len(run.questions.train):
            missing = wanted - len(found)
            for question in following(
                run.questions.train,
                run.drawn + self.drawn,
                missing,
                seed=run.recipe.seed,
                shuffle=self._shuffle,
            ):
                self.drawn += 1
                if question.id not in self._seen:
                    self._seen.add(question.id)
                    found.append(question)
        return found
