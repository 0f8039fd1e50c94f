"""What other trainers call the settings of a recipe: TRL, verl, OpenRLHF, EasyR1. A table and its look-ups."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """One setting. ours: its key; trl, verl, others: what they call it; differs: how theirs is not the same thing."""

    ours: str
    trl: tuple[str, ...] = ()
    verl: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    differs: str = ""


_ACTOR, _ROLLOUT, _WORKER = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "worker.actor"
NAMES = (
    Name("stage", differs="the kind of training, which TRL chooses by the trainer's class"),
    Name("seed", trl=("seed",), verl=("data.seed",)),
    Name("model.path", ("model_name_or_path",), ("actor_rollout_ref.model.path",), ("pretrain",
         f"{_WORKER}.model.model_path")),
    Name("model.precision", ("bf16", "fp16"), differs="fp32 or bf16; weights are fp32 always"),
    Name("model.chat_template", ("chat_template_path",), ("actor_rollout_ref.model.custom_chat_template",)),
    Name("model.chat_template_kwargs", ("chat_template_kwargs",), ("data.apply_chat_template_kwargs",)),
    Name("model.trust_remote_code", ("trust_remote_code",), ("actor_rollout_ref.model.trust_remote_code",)),
    Name("model.lora.rank", ("lora_r", "peft_config.r"), ("actor_rollout_ref.model.lora_rank",), ("lora_rank",
         "lora.r")),
    Name("model.lora.alpha", ("lora_alpha", "peft_config.lora_alpha"), ("actor_rollout_ref.model.lora_alpha",)),
    Name("model.lora.targets", ("lora_target_modules", "peft_config.target_modules"),
         ("actor_rollout_ref.model.target_modules",)),
    Name("model.train.vision", others=(f"{_WORKER}.model.freeze_vision_tower", "freeze_vision_tower"),
         differs="true trains the tower, which freeze_vision_tower: false does"),
    Name("model.min_pixels", others=("data.min_pixels",)),
    Name("model.max_pixels", others=("data.max_pixels",)),
    Name("examples.max_tokens", ("max_length",), ("data.max_length",), ("max_len",)),
    Name("questions.source", ("dataset_name",), ("data.train_files",), ("prompt_data", "data.path", "dataset")),
    Name("questions.heldout", ("dataset_test_split",), ("data.val_files",), ("eval_dataset",)),
    Name("questions.prompt_column", verl=("data.prompt_key",), others=("input_key",)),
    Name("questions.answer_column", others=("label_key", "data.answer_key")),
    Name("questions.image_column", verl=("data.image_key",)),
    Name("questions.image_dir", others=("data.image_dir",)),
    Name("questions.template", others=("input_template", "data.format_prompt"), differs="text with {question} in it"),
    Name("questions.shuffle", ("shuffle_dataset",), ("data.shuffle",)),
    Name("rewards.0.function", ("reward_funcs",), ("custom_reward_function.path", "reward_model.reward_manager"),
         ("remote_rm_url", "reward_pretrain", "worker.reward.reward_function")),
    Name("rewards.0.weight", ("reward_weights",), ("algorithm.gdpo_reward_weights",)),
    Name("rewards.0.workers", verl=("reward.num_workers", "reward_model.num_workers"),
         differs="processes of one function; verl's are of all"),
    Name("rollout.engine", ("use_vllm", "vllm_mode"), (f"{_ROLLOUT}.name",), ("vllm_num_engines",),
         "`local`, the policy's own module, or a class of your own"),
    Name("rollout.environment", ("environment_factory", "tools"), (f"{_ROLLOUT}.multi_turn.interaction_config_path",
         f"{_ROLLOUT}.multi_turn.tool_config_path", f"{_ROLLOUT}.agent.default_agent_loop"), ("agent_func_path",),
         "a class with reset and reply, which also finds and runs the calls of tools"),
    Name("rollout.environment_params", differs="TRL's factory takes none; verl's are in the file and in each row"),
    Name("rollout.max_turns", ("max_tool_calling_iterations",), (f"{_ROLLOUT}.multi_turn.max_assistant_turns",
         f"{_ROLLOUT}.multi_turn.max_user_turns"),
         differs="turns of the policy; TRL's and verl's max_user_turns count what follows them, one fewer"),
    Name("rollout.questions_per_step", ("generation_batch_size", "gradient_accumulation_steps", "steps_per_generation"),
         ("data.train_batch_size", "data.gen_batch_size"), ("rollout_batch_size", "train_batch_size"),
         "questions; TRL's batch sizes count outputs, so divide by rollout.group_size"),
    Name("rollout.group_size", ("num_generations",), (f"{_ROLLOUT}.n",),
         ("n_samples_per_prompt", "num_generations_per_prompt", "worker.rollout.n", "gconfig.n_samples", "group_size")),
    Name("rollout.max_new_tokens", ("max_completion_length",), ("data.max_response_length",), ("generate_max_len",
         "max_new_tokens")),
    Name("rollout.temperature", ("temperature",), (f"{_ROLLOUT}.temperature",)),
    Name("rollout.top_k", ("top_k",), (f"{_ROLLOUT}.top_k",), differs="0 keeps all, where verl has -1"),
    Name("rollout.top_p", ("top_p",), (f"{_ROLLOUT}.top_p",)),
    Name("rollout.min_p", ("min_p",)),
    Name("rollout.dynamic_sampling_rounds", verl=("algorithm.filter_groups.max_num_gen_batches",
         "algorithm.filter_groups.enable"),
         others=("dynamic_filtering",), differs="rounds after the first"),
    Name("rollout.precision", verl=(f"{_ROLLOUT}.dtype",), differs="bf16, or the model's"),
    Name("rollout.max_num_seqs", verl=(f"{_ROLLOUT}.max_num_seqs",), differs="outputs sampled side by side"),
    Name("objective.preset", ("loss_type", "importance_sampling_level"), ("algorithm.adv_estimator",
         f"{_ACTOR}.policy_loss.loss_mode"),
         ("advantage_estimator", "algorithm"), "a published method by its name; see `groupwise list presets`"),
    Name("objective.advantage", ("scale_rewards",), ("algorithm.norm_adv_by_std_in_grpo",),
         ("disable_grpo_std_normalization",),
         "TRL's `batch` divides by the spread of rewards, `group_centred_batch_scaled` by that of centred ones"),
    Name("objective.loss", differs="see `groupwise list losses`"),
    Name("objective.aggregate", verl=(f"{_ACTOR}.loss_agg_mode",), others=("loss_reduction",),
         differs="TRL's loss_type is this and more"),
    Name("objective.clip_low", ("epsilon",), (f"{_ACTOR}.clip_ratio_low", f"{_ACTOR}.clip_ratio"), ("eps_clip",
         "eps_clip_low")),
    Name("objective.clip_high", ("epsilon_high",), (f"{_ACTOR}.clip_ratio_high",), ("eps_clip_high", "eps_clip_higher"),
         "TRL's is the bound itself in CISPO"),
    Name("objective.dual_clip", ("delta",), (f"{_ACTOR}.clip_ratio_c",), ("dual_clip", "clip_ratio_dual"),
         "of the loss `dual_clip` alone; verl's is always on"),
    Name("objective.tau_pos", ("sapo_temperature_pos",), (f"{_ACTOR}.tau_pos",)),
    Name("objective.tau_neg", ("sapo_temperature_neg",), (f"{_ACTOR}.tau_neg",)),
    Name("objective.kl_coef", ("beta",), (f"{_ACTOR}.kl_loss_coef", f"{_ACTOR}.use_kl_loss",
         "algorithm.kl_ctrl.kl_coef"),
         ("init_kl_coef", "algorithm.kl_coef"),
         "the preset grpo has 0.04, TRL and verl 0; DPO's beta is preference.beta"),
    Name("objective.kl_estimator", ("use_bias_correction_kl",), (f"{_ACTOR}.kl_loss_type", "algorithm.kl_penalty"),
         ("kl_estimator",), "TRL has k3, with use_bias_correction_kl k3_weighted"),
    Name("objective.kl_in", verl=("algorithm.use_kl_in_reward",), others=("use_kl_loss",)),
    Name("objective.kl_target", verl=("algorithm.kl_ctrl.target_kl",), others=("kl_target",)),
    Name("objective.kl_horizon", verl=("algorithm.kl_ctrl.horizon",), others=("kl_horizon",)),
    Name("objective.entropy_coef", ("entropy_coef",), (f"{_ACTOR}.entropy_coeff",), ("entropy_loss_coef",),
         "weighs tokens as objective.aggregate does; TRL averages over all tokens, whatever its loss_type"),
    Name("objective.correction", ("vllm_importance_sampling_correction", "vllm_importance_sampling_mode"),
         ("algorithm.rollout_correction.rollout_is",)),
    Name("objective.correction_high", ("vllm_importance_sampling_clip_max",),
         ("algorithm.rollout_correction.rollout_is_threshold",)),
    Name("objective.reference_every", ("ref_model_sync_steps", "sync_ref_model")),
    Name("objective.reference_mix", ("ref_model_mixup_alpha",)),
    Name("preference.label_smoothing", ("label_smoothing",)),
    Name("preference.desirable_weight", ("desirable_weight",)),
    Name("preference.undesirable_weight", ("undesirable_weight",)),
    Name("update.steps", ("max_steps", "num_train_epochs"), ("trainer.total_training_steps", "trainer.total_epochs"),
         ("num_episodes", "epochs", "total_episodes"),
         "steps; an epoch has questions / rollout.questions_per_step of them"),
    Name("update.learning_rate", ("learning_rate",), (f"{_ACTOR}.optim.lr",), ("actor_learning_rate",)),
    Name("update.schedule", ("lr_scheduler_type",), (f"{_ACTOR}.optim.lr_scheduler_type",), ("lr_scheduler",)),
    Name("update.warmup_steps", ("warmup_steps", "warmup_ratio"), (f"{_ACTOR}.optim.lr_warmup_steps",),
         ("lr_warmup_ratio",), "steps, not a share"),
    Name("update.weight_decay", ("weight_decay",), (f"{_ACTOR}.optim.weight_decay",), ("l2",)),
    Name("update.betas", ("adam_beta1", "adam_beta2"), (f"{_ACTOR}.optim.betas",), ("adam_betas",)),
    Name("update.max_grad_norm", ("max_grad_norm",), (f"{_ACTOR}.grad_clip",), ("max_norm",)),
    Name("update.updates_per_rollout", ("num_iterations",), (f"{_ACTOR}.ppo_epochs",), ("max_epochs",)),
    Name("update.outputs_per_update", verl=(f"{_ACTOR}.ppo_mini_batch_size",), others=("global_batch_size",
         f"{_WORKER}.global_batch_size"),
         differs="outputs; verl counts questions, so multiply by rollout.group_size"),
    Name("update.tokens_per_microbatch", ("per_device_train_batch_size",),
         (f"{_ACTOR}.ppo_max_token_len_per_gpu", f"{_ACTOR}.ppo_micro_batch_size_per_gpu", f"{_ACTOR}.use_dynamic_bsz"),
         ("micro_train_batch_size", "micro_batch_size_per_device_for_update"),
         "tokens, not outputs; changes memory, no gradient"),
    Name("update.activation_checkpointing", ("gradient_checkpointing",),
         ("actor_rollout_ref.model.enable_gradient_checkpointing",)),
    Name("update.mask_truncated", ("mask_truncated_completions",), others=("overlong_filtering",),
         differs="masked outputs leave the denominator; in TRL they stay in it"),
    Name("critic.path", ("value_model_path",), ("critic.model.path",), ("critic_pretrain",)),
    Name("critic.learning_rate", verl=("critic.optim.lr",), others=("critic_learning_rate",)),
    Name("critic.discount", ("gamma",), ("algorithm.gamma",)),
    Name("critic.gae_lambda", ("lam",), ("algorithm.lam",), ("lambd",)),
    Name("critic.value_coef", ("vf_coef",)),
    Name("critic.clip_value", ("cliprange_value",), ("critic.cliprange_value",), ("value_clip",)),
    Name("critic.warmup_steps", verl=("trainer.critic_warmup",), others=("freezing_actor_steps",)),
    Name("evaluate.every", ("eval_steps", "eval_strategy"), ("trainer.test_freq", "trainer.val_before_train"),
         ("val_freq",)),
    Name("evaluate.samples", ("num_generations_eval",), (f"{_ROLLOUT}.val_kwargs.n",), ("eval_n_samples_per_prompt",)),
    Name("run.checkpoint_every", ("save_steps", "save_strategy"), ("trainer.save_freq",)),
    Name("run.keep_checkpoints", ("save_total_limit",), ("trainer.max_actor_ckpt_to_keep",), ("max_ckpt_num",
         "save_limit")),
    Name("run.keep_best", ("load_best_model_at_end",), differs="the figure to go by, where TRL has true"),
    Name("run.root", others=("ckpt_path",), differs="the folder of all runs; --run DIR names one"),
)  # fmt: skip
"""By our key; within a row what users of the others write, most common first."""

_ELSEWHERE = {
    "output_dir": "name the run's folder with --run DIR",
    "save_path": "name the run's folder with --run DIR",
    "trainer.default_local_dir": "name the run's folder with --run DIR",
    "run_name": "name the run's folder with --run DIR",
    "trainer.experiment_name": "name the run's folder with --run DIR",
    "trainer.project_name": "name the run's folder with --run DIR",
    "resume_from_checkpoint": "use --run DIR --resume",
    "trainer.resume_mode": "use --run DIR --resume",
    "load_checkpoint": "use --run DIR --resume",
    "logging_steps": "every step is recorded in record.sqlite and shown",
    "log_completions": "every output is recorded in record.sqlite",
    "report_to": "every step is recorded in record.sqlite and shown; there is no other logger",
    "trainer.logger": "every step is recorded in record.sqlite and shown; there is no other logger",
    "max_prompt_length": "questions are never cut; one that does not fit the model's context is refused",
    "prompt_max_len": "questions are never cut; one that does not fit the model's context is refused",
    "deepspeed": "a run is one process on one device",
    "fsdp": "a run is one process on one device",
    "zero_stage": "a run is one process on one device",
    "trainer.nnodes": "a run is one process on one device",
    "trainer.n_gpus_per_node": "a run is one process on one device",
    "tensor_model_parallel_size": "a run is one process on one device",
    "gpu_memory_utilization": "the sampler shares the policy's weights; rollout.max_num_seqs bounds its memory",
    "vllm_gpu_memory_utilization": "the sampler shares the policy's weights; rollout.max_num_seqs bounds its memory",
    "delta": "set objective.loss: dual_clip",
    "clip_ratio_c": "set objective.loss: dual_clip",
    "optim": "the optimizer is AdamW",
    "config": "the recipe is the first word: groupwise train RECIPE",
}
"""What is no value of a recipe here, and what there is instead."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "stage": {
        "reward": "reward_model", "rm": "reward_model", "rlhf": "rl", "best_of_n": "rejection", "rft": "rejection",
        "fine_tuning": "sft", "finetune": "sft", "rlvr": "rl", "rloo": "rl", "gspo": "rl",
    },
    "objective.preset": {
        "reinforce++": "reinforce_pp", "reinforce_plus_plus": "reinforce_pp", "bnpo": "dapo", "drgrpo": "dr_grpo",
        "reinforce++_baseline": "reinforce_pp_baseline", "reinforce_plus_plus_baseline": "reinforce_pp_baseline",
        "sequence": "gspo", "opd": "distill",
    },
    "objective.aggregate": {
        "token_mean": "per_token", "seq_mean_token_mean": "per_output", "seq_mean_token_sum_norm": "fixed_length",
        "bnpo": "per_token", "dapo": "per_token", "grpo": "per_output", "dr_grpo": "fixed_length",
    },
    "objective.advantage": {
        "group": "group_relative", "none": "group_centred", "batch": "group_centred_batch_scaled",
        "grpo": "group_relative",
        "rloo": "leave_one_out",
    },
    "objective.loss": {"vanilla": "clip", "ppo": "clip", "gspo": "sequence_clip", "sapo": "soft_gate",
        "gmpo": "geometric_clip"},
    "objective.kl_estimator": {"low_var_kl": "k3", "kl": "k1", "mse": "k2", "kl_mse": "k2", "k3+": "k3_plus"},
    "rollout.engine": {"hf": "local", "transformers": "local", "vllm": "local", "sglang": "local"},
}  # fmt: skip
"""By our key: other words for a value, folded, and ours."""


def folded(name: str) -> str:
    """A name in small letters with _ for - and blanks, as all names here are written."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def other_name(key: str) -> str:
    """What another trainer's name for a setting is here, in words; "" if it is no name that is known.

    key: as it was written, dotted or not; the longest end of it that is known counts (`rollout.num_generations`)."""
    parts = folded(key).split(".")
    for ending in (".".join(parts[start:]) for start in range(len(parts))):
        if ending in _INDEX:
            return _INDEX[ending]
    return ""


def of(key: str) -> Name:
    """The row of one of our keys; an empty one if no other trainer has a name for it."""
    return next((name for name in NAMES if name.ours == key), Name(key))


_TOO_SHORT = ("name", "path", "enable", "seed", "shuffle", "source", "r", "num_workers")
"""Ends of dotted names that alone could mean anything."""


def _endings() -> Iterator[tuple[str, str]]:
    """Each name and each end of it, with the answer; whole names first, since the first answer counts."""
    rows = list(_ELSEWHERE.items())
    for row in NAMES:
        for whose, theirs in (("TRL's", row.trl), ("verl's", row.verl), ("", row.others)):
            for name in theirs:
                rows.append((name, f"{f'{whose} {name}' if whose else name} is {row.ours} here" + _aside(row)))
    yield from rows
    for name, what in rows:
        parts = name.split(".")
        yield from ((".".join(parts[n:]), what) for n in range(1, len(parts)) if ".".join(parts[n:]) not in _TOO_SHORT)


def _aside(row: Name) -> str:
    return f" ({row.differs})" if row.differs else ""


_INDEX: dict[str, str] = {}
for _name, _what in _endings():
    _INDEX.setdefault(_name, _what)
