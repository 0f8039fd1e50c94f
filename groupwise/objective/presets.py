"""Published methods as rows of names: advantage x loss x aggregate x KL. Knows names only; imports no torch.

The names are those of the tables ADVANTAGES, LOSSES, AGGREGATES and KL_ESTIMATORS in groupwise/registry.py. What a
paper adds that is no part of a row (how outputs are sampled or rewarded) is said behind its row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A method's row; a recipe may replace any column of it."""

    advantage: str
    loss: str
    aggregate: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Of the loss, by name (groupwise/parameters.py)."""
    kl_coef: float = 0.0
    """beta, weight of the KL to the reference."""
    kl_estimator: str = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL counts: added to each token's loss, or taken off each token's reward."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus, subtracted from the loss."""
    correction: str = "uncorrected"
    source: str
    equation: str
    """What is minimised, in one line."""


GRPO = Preset(
    advantage="group_relative",
    loss="clip",
    aggregate="per_output",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    kl_coef=0.04,
    kl_estimator="k3",
    source="DeepSeekMath, arXiv:2402.03300, equation 3",
    equation="mean_i mean_t [-min(ratio A, clamp(ratio, 1-eps, 1+eps) A) + beta k3], A = (r - mean r) / std r",
)

DR_GRPO = Preset(
    advantage="group_centred",
    loss="clip",
    aggregate="fixed_length",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    source="Understanding R1-Zero-Like Training (Dr. GRPO), arXiv:2503.20783",
    equation="mean_i (1/max_tokens) sum_t -min(ratio A, clamp(ratio, 1-eps, 1+eps) A), A = r - mean r",
)

REINFORCE = Preset(
    advantage="reward",
    loss="reinforce",
    aggregate="fixed_length",
    source="Williams 1992, Machine Learning 8; for language models Back to Basics, arXiv:2402.14740",
    equation="mean_i (1/max_tokens) sum_t -r log pi: the gradient of the expected reward, without a baseline",
)

RLOO = Preset(
    advantage="leave_one_out",
    loss="reinforce",
    aggregate="fixed_length",
    source="Back to Basics (RLOO), arXiv:2402.14740",
    equation="mean_i (1/max_tokens) sum_t -A log pi, A = r - mean r of the others",
)
"""The paper's KL is part of the reward: set kl_in to reward and kl_coef above 0; here the reward stays pure."""

REINFORCE_PP = Preset(
    advantage="return_normalised",
    loss="clip",
    aggregate="per_output",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    kl_coef=0.001,
    kl_estimator="k1",
    kl_in="reward",
    source="REINFORCE++, arXiv:2501.03262, equations 1, 4 and 5",
    equation="mean_i mean_t -min(ratio A, clamp(ratio, 1-eps, 1+eps) A), A_t = (G_t - mean G) / std G over the batch, "
    "G_t = r - beta sum_(s >= t) k1_s",
)
"""beta is the paper's for mathematics; elsewhere it has 0.01. With beta 0 and the advantage batch_normalised no
reference is needed, and the mean is over outputs."""

REINFORCE_PP_BASELINE = Preset(
    advantage="group_centred_batch_scaled",
    loss="clip",
    aggregate="per_output",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    kl_coef=0.001,
    kl_estimator="k2",
    source="REINFORCE++ with baseline, arXiv:2501.03262, equations 6 to 8",
    equation="mean_i mean_t [-min(ratio A, clamp(ratio, 1-eps, 1+eps) A) + beta k2], A = c / std c, c = r - mean r",
)
"""The mean is the group's, the std the batch's. The paper does not give the weight of its k2; 0.001 is that of the
KL in its first version, for mathematics."""

DAPO = Preset(
    advantage="group_relative",
    loss="clip",
    aggregate="per_token",
    parameters={"clip_low": 0.2, "clip_high": 0.28},
    source="DAPO, arXiv:2503.14476, equation 8",
    equation="mean over tokens of -min(ratio A, clamp(ratio, 1-0.2, 1+0.28) A), A = (r - mean r) / std r",
)
"""Beside the row, since they are about sampling and rewards: dynamic sampling is `rollout.dynamic_sampling_rounds`, the
soft overlong punishment the reward `soft_overlong`, the overlong filter `update.mask_truncated`."""

GSPO = Preset(
    advantage="group_relative",
    loss="sequence_clip",
    aggregate="per_output",
    parameters={"clip_low": 3e-4, "clip_high": 4e-4},
    source="GSPO, arXiv:2507.18071, equations 5 to 7; bounds of section 5.1",
    equation="mean_i -min(s A, clamp(s, 1-eps, 1+eps) A), s = exp(mean_t log ratio), A = (r - mean r) / std r",
)

GSPO_TOKEN = Preset(
    advantage="group_relative",
    loss="sequence_token_clip",
    aggregate="per_output",
    parameters={"clip_low": 3e-4, "clip_high": 4e-4},
    source="GSPO-token, arXiv:2507.18071, equations 13 and 14; bounds of section 5.1",
    equation="mean_i mean_t -min(s_t A_t, clamp(s_t, 1-eps, 1+eps) A_t), s_t = sg[s] pi / sg[pi], s as in gspo",
)

CISPO = Preset(
    advantage="group_relative",
    loss="cispo",
    aggregate="per_token",
    parameters={"clip_low": 1.0, "clip_high": 4.0},
    source="MiniMax-M1 (CISPO), arXiv:2506.13585, equations 4 and 5; upper bound of ScaleRL, arXiv:2510.13786",
    equation="mean over tokens of -sg[clamp(ratio, 0, 5)] A log pi, A = (r - mean r) / std r",
)

GMPO = Preset(
    advantage="group_relative",
    loss="geometric_clip",
    aggregate="per_output",
    parameters={"clip_low": 0.4, "clip_high": 0.4},
    source="GMPO, arXiv:2507.20673, section 3",
    equation="mean_i -exp(mean_t clipped log ratio) A, to [-0.4, 0.4] on the side of A; A = (r - mean r) / std r",
)
"""The bounds are logarithms: ratios from exp(-0.4) to exp(0.4)."""

SAPO = Preset(
    advantage="group_relative",
    loss="soft_gate",
    aggregate="per_output",
    parameters={"tau_pos": 1.0, "tau_neg": 1.05},
    source="SAPO, arXiv:2511.20347, equations 5 and 6",
    equation="mean_i mean_t -(4/tau) sigmoid(tau (ratio - 1)) A, tau 1 where A > 0, else 1.05; A as in grpo",
)

MAXRL = Preset(
    advantage="over_mean",
    loss="clip",
    aggregate="fixed_length",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    source="MaxRL, arXiv:2602.02710, Algorithm 1, with the clip of PPO for updates after the first",
    equation="mean_i (1/max_tokens) sum_t -min(ratio A, clamp(ratio, 1-eps, 1+eps) A), A = (r - mean r) / mean r",
)

ONLINE_RFT = Preset(
    advantage="only_right",
    loss="nll",
    aggregate="per_output",
    source="DeepSeekMath (Online RFT), arXiv:2402.03300, appendix A.1.3",
    equation="mean_i mean_t -log pi of the outputs with a reward above 0",
)

R1 = Preset(
    advantage="group_relative",
    loss="clip",
    aggregate="per_output",
    parameters={"clip_low": 10.0, "clip_high": 10.0},
    kl_coef=0.001,
    kl_estimator="k3",
    source="DeepSeek-R1, Nature 645 (2025), methods: beta 0.001, clip 10",
    equation="as grpo, with beta 0.001 and eps 10",
)
"""The paper renews the reference every 400 steps (`objective.reference_every`). With eps 10 a ratio is bounded above
by 11, and below not at all."""

GRPO_PROCESS = Preset(
    advantage="process_supervision",
    loss="clip",
    aggregate="per_output",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    kl_coef=0.04,
    kl_estimator="k3",
    source="DeepSeekMath, arXiv:2402.03300, equation 3 and section 4.1.3",
    equation="as grpo, with A_t the sum of the normalised rewards of the steps that end at or after t",
)
"""It needs a reward function that gives steps."""

GDPO = Preset(
    advantage="per_reward",
    loss="clip",
    aggregate="per_output",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    source="GDPO, arXiv:2601.05242",
    equation="as grpo without KL, A = S / std S, S = sum_k w_k (r_k - mean r_k) / std r_k",
)

DISTILL = Preset(
    advantage="teacher_gap",
    loss="reinforce",
    aggregate="per_token",
    source="on-policy distillation: GKD, arXiv:2306.13649; MiniLLM, arXiv:2306.08543",
    equation="mean over tokens of -(log pi_teacher - log pi_old) log pi: reverse KL to the teacher, token by token",
)
"""It needs a `teacher`; the rewards are measured and not learned from."""

PPO = Preset(
    advantage="gae_whitened",
    loss="clip",
    aggregate="per_token",
    parameters={"clip_low": 0.2, "clip_high": 0.2},
    kl_coef=0.02,
    kl_estimator="k1",
    kl_in="reward",
    source="PPO, arXiv:1707.06347; for language models InstructGPT, arXiv:2203.02155",
    equation="mean over tokens of -min(ratio A, clamp(ratio, 1-eps, 1+eps) A) + c1 (V - G)^2, A: gae of r_t - beta k1",
)
"""It needs the stage ppo, which has the critic."""

A2C = Preset(
    advantage="gae",
    loss="reinforce",
    aggregate="per_token",
    source="A3C, arXiv:1602.01783, in its synchronous form, with the advantage of arXiv:1506.02438",
    equation="mean over tokens of -A log pi + c1 (V - G)^2 - c2 H, A by gae",
)
"""It needs the stage ppo, which has the critic; one update a rollout."""
