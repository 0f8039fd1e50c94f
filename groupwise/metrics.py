"""The catalogue of metrics: every name a run may log, with its unit, its meaning and the direction that is better.

Shares are between 0 and 1. `TRL` and `verl` in a meaning give the nearest name of those projects, for whoever searches.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One entry. `better` is the direction that is good by itself; empty where neither is."""

    name: str
    unit: str
    meaning: str
    better: Literal["up", "down", ""] = ""


_ENTRIES = (
    Metric("reward/mean", "reward", "mean of r_i over the step's outputs that have one; TRL reward", "up"),
    Metric(
        "reward/std",
        "reward",
        "standard deviation (n-1) of r_i inside each group, mean over groups; at 0 nothing is learned; TRL reward_std",
    ),
    Metric(
        "reward/<label>",
        "reward",
        "mean of one reward function, before its weight, over the outputs where it has a value; TRL rewards/<fn>/mean",
        "up",
    ),
    Metric("accuracy", "share", "outputs that the reward named by evaluate.correct calls right", "up"),
    Metric("format", "share", "outputs that the reward named by evaluate.format calls well formed", "up"),
    Metric("length/mean", "tokens", "mean length of an output; TRL completions/mean_length, verl response_length/mean"),
    Metric("length/max", "tokens", "length of the step's longest output"),
    Metric(
        "finish/length",
        "share",
        "outputs cut at rollout.max_new_tokens; TRL completions/clipped_ratio, verl response_length/clip_ratio",
        "down",
    ),
    Metric("finish/turns", "share", "episodes that rollout.max_turns ended", "down"),
    Metric("finish/error", "share", "episodes whose environment or agent failed; left out of the update", "down"),
    Metric("turns/mean", "turns", "mean of the policy's turns in an episode of several turns; verl num_turns/mean"),
    Metric("turns/max", "turns", "most turns of the policy in an episode of the step; verl num_turns/max"),
    Metric(
        "time/environment",
        "seconds",
        "that an episode spent in calls of its environment, mean over episodes; an agent's call lasts the whole "
        "episode, its waiting for the model included",
        "down",
    ),
    Metric(
        "time/environment_slowest",
        "seconds",
        "of the step's slowest call of an environment; its limit is rollout.environment_timeout_seconds",
        "down",
    ),
    Metric(
        "tools/calls/<tool>",
        "calls",
        "calls of one tool in the step; `(unknown)` counts those of tools that there are not; TRL tools/call_frequency "
        "is calls an output",
    ),
    Metric(
        "tools/failed/<tool>",
        "share",
        "of these, calls that could not be read, or whose reply begins with `error:`; TRL tools/failure_frequency",
        "down",
    ),
    Metric(
        "memory/halvings",
        "",
        "how often micro-batches did not fit into memory and were cut in half; absent where all did fit",
        "down",
    ),
    Metric(
        "entropy",
        "nats",
        "mean entropy of the policy's next-token distribution over sampled tokens; a fall to 0 is a collapse",
    ),
    Metric("kl", "nats", "mean KL estimate per token from the policy to the reference; verl actor/kl_loss, not ppo_kl"),
    Metric(
        "clip/low",
        "share",
        "tokens with A < 0 whose gradient the loss drops (clip: ratio under 1 - clip_low); TRL clip_ratio/low_mean",
    ),
    Metric(
        "clip/high",
        "share",
        "tokens with A > 0 whose gradient the loss drops (clip: ratio over 1 + clip_high); TRL clip_ratio/high_mean",
    ),
    Metric("ratio/mean", "", "mean of pi_theta / pi_old over sampled tokens; 1 by construction on policy"),
    Metric("ratio/max", "", "largest pi_theta / pi_old of a sampled token"),
    Metric(
        "groups/signal",
        "share",
        "groups with two different rewards, all that a comparison learns from; TRL 1 - frac_reward_zero_std",
        "up",
    ),
    Metric("rewards/failed", "share", "outputs for which a reward function broke; masked, never scored 0", "down"),
    Metric("rewards/abstained", "share", "outputs for which every reward function had nothing to say"),
    Metric(
        "rewards/std/<label>",
        "reward",
        "standard deviation (n-1) of one reward function over the step's outputs where it has a value; TRL "
        "rewards/<fn>/std",
    ),
    Metric("rewards/abstained/<label>", "share", "outputs for which one reward function had nothing to say"),
    Metric("rewards/failed/<label>", "share", "outputs for which one reward function broke", "down"),
    Metric("rewards/gated/<label>", "share", "outputs for which a closed gate kept one reward function from a call"),
    Metric(
        "rewards/weight/<label>", "", "weight of one reward function in this step, where weight_schedule changes it"
    ),
    Metric(
        "time/reward_work/<label>", "seconds", "work of one reward function's processes since the last step", "down"
    ),
    Metric(
        "time/reward_wait/<label>",
        "seconds",
        "from the step's last sampled output until one reward function had scored all; the step waits for the slowest",
        "down",
    ),
    Metric("judge/calls/<label>", "requests", "that a judge sent since the last step, evaluations included", "down"),
    Metric("judge/cached/<label>", "judgements", "that a judge took from its cache since the last step", "up"),
    Metric(
        "judge/tokens_in/<label>", "tokens", "that a judge read since the last step, by the endpoint's count", "down"
    ),
    Metric("judge/tokens_out/<label>", "tokens", "that a judge wrote since the last step", "down"),
    Metric("judge/cost/<label>", "", "of those tokens, in the currency of the recipe's prices", "down"),
    Metric(
        "judge/seconds/<label>", "seconds", "that a judge's requests took, added up; those at once count each", "down"
    ),
    Metric("judge/unread/<label>", "replies", "that held no score and were asked for again", "down"),
    Metric("advantage/abs_mean", "", "mean of |A_i| over outputs that have an advantage"),
    Metric(
        "grad_norm", "", "Euclidean norm of the gradient before it is scaled to max_grad_norm; verl actor/grad_norm"
    ),
    Metric(
        "loss",
        "nats",
        "what is minimised: sft, mean -log pi of the step's learned tokens; preference, mean loss of its pairs or "
        "outputs (ipo: squared nats; kto: no unit); TRL loss",
        "down",
    ),
    Metric(
        "preference/accuracy",
        "share",
        "pairs whose chosen output has the higher implicit reward; of single outputs the mean of two shares, liked "
        "ones above the reference point and disliked ones below; ties count half; TRL rewards/accuracies (pairs)",
        "up",
    ),
    Metric(
        "reward_model/accuracy",
        "share",
        "pairs whose chosen answer has the higher reward, ties count half; or steps judged as labelled; TRL accuracy",
        "up",
    ),
    Metric("reward_model/margin", "reward", "reward of chosen answers less that of rejected ones; TRL margin", "up"),
    Metric("reward_model/mean", "reward", "mean reward of the step's answers, chosen and rejected; TRL mean_reward"),
    Metric("reward_model/right", "share", "steps that are labelled right: what calling every step right would reach"),
    Metric("preference/margin", "reward", "implicit reward of chosen less that of rejected; TRL rewards/margins", "up"),
    Metric(
        "preference/chosen",
        "reward",
        "mean implicit reward beta (log pi - log pi_ref) of chosen, or liked, outputs; TRL rewards/chosen",
        "up",
    ),
    Metric("preference/rejected", "reward", "the same of rejected, or disliked, ones; TRL rewards/rejected", "down"),
    Metric("preference/reference_point", "nats", "z0 of kto: estimated KL to the reference, 0 at least; TRL kl"),
    Metric("logprobs/chosen", "nats", "mean log pi of whole chosen, or liked, outputs; TRL logps/chosen"),
    Metric("logprobs/rejected", "nats", "the same of rejected, or disliked, ones; TRL logps/rejected"),
    Metric("tokens/learned", "tokens", "tokens of the step that the loss is about"),
    Metric("tokens/read", "tokens", "tokens of the step's examples, those included that are only read"),
    Metric("learning_rate", "", "of the step's last optimizer step"),
    Metric(
        "objective",
        "",
        "value of the surrogate objective; on policy with per_output it is 0 by construction (a group's advantages sum "
        "to 0), with other aggregates it only reflects lengths: it says nothing about learning, read reward/mean; "
        "its negative is verl actor/pg_loss",
    ),
    Metric("tokens/sampled", "tokens", "tokens the policy drew in this step (not a running total as TRL num_tokens)"),
    Metric("tokens/per_second", "tokens/s", "tokens/sampled by time/step", "up"),
    Metric(
        "sampler/gap_mean",
        "nats",
        "mean |sampler's log-prob - policy's log-prob| of a token; TRL sampling/sampling_logp_difference/mean",
        "down",
    ),
    Metric(
        "sampler/gap_max",
        "nats",
        "largest |sampler's log-prob - policy's log-prob| of a token; large: stale or wrong weights in the sampler",
        "down",
    ),
    Metric(
        "sampler/ess",
        "share",
        "effective sample size, (sum w)^2 / (n sum w^2) with w = policy / sampler of each token; 1: the same policy",
        "up",
    ),
    Metric("correction/weight_mean", "", "mean weight that the off-policy correction gave a token; 1 without bounds"),
    Metric("correction/dropped", "share", "tokens to which the off-policy correction gave the weight 0", "down"),
    Metric(
        "critic/loss",
        "reward^2",
        "mean error of the critic's values against the returns, clipped as in the loss; verl critic/vf_loss",
        "down",
    ),
    Metric(
        "critic/explained_variance",
        "",
        "1 - var(G - V) / var(G) over the step's tokens, V of the critic when sampling; 0: it knows the mean alone",
        "up",
    ),
    Metric("critic/grad_norm", "", "as grad_norm, of the critic's own weights; verl critic/grad_norm"),
    Metric("critic/value_mean", "reward", "mean V of the states in which the step's tokens were drawn"),
    Metric("kl_coef", "", "beta of the step, where objective.kl_target steers it"),
    Metric("entropy_coef", "", "weight of the step's entropy bonus, where objective.entropy_target steers it"),
    Metric("groups/sampled", "groups", "groups sampled in the step, those included that dynamic sampling dropped"),
    Metric(
        "curriculum/asked", "share", "training questions that were asked before the step, so that their rate is known"
    ),
    Metric("curriculum/in_band", "share", "of these, those whose running solve rate is within curriculum.band", "up"),
    Metric("curriculum/solve_rate", "share", "mean running solve rate of these", "up"),
    Metric(
        "curriculum/effective",
        "share",
        "effective share of the N training questions: (sum w)^2 / (N sum w^2), w the weight by the solve rate",
    ),
    Metric("curriculum/passed_over", "share", "questions that came up in the step and were passed over"),
    Metric(
        "selection/passed",
        "outputs",
        "outputs of the step that pass the filters and the rule of rejection sampling",
        "up",
    ),
    Metric("selection/<reason>", "outputs", "outputs of the step that fall to one filter, or to the rule"),
    Metric("time/sample", "seconds", "sampling the step's outputs; verl timing_s/gen", "down"),
    Metric("time/reward", "seconds", "scoring them", "down"),
    Metric("time/update", "seconds", "the optimizer steps; verl timing_s/update_actor", "down"),
    Metric("time/step", "seconds", "the whole step; TRL step_time, verl timing_s/step", "down"),
    Metric(
        "memory/peak", "bytes", "most memory held since the run began, of the device or of the process on a CPU", "down"
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}


def describe(name: str) -> Metric:
    """The entry of a metric; `reward/<label>` for `reward/math`. Raises KeyError for a name not in the catalogue."""
    if name in METRICS:
        return METRICS[name]
    for metric in _ENTRIES:
        prefix, placeholder, _ = metric.name.partition("<")
        if placeholder and name.startswith(prefix) and name != prefix:
            return metric
    raise KeyError(f"metric {name!r} is not in groupwise.metrics.METRICS")


def check(names: Iterable[str]) -> None:
    """Raises KeyError naming the first metric that the catalogue lacks."""
    for name in names:
        describe(name)
