"""What a config may call of Optax; a test takes each through a training step.

Not what takes functions that a config cannot write, what needs more of a step than its gradient and
loss (`lbfgs`, `sophia`, `sam`), or what leaves parameters that are not the ones to be evaluated
(`schedule_free`, `lookahead`).
"""

from collections.abc import Mapping

_SCHEDULES = """
    constant_schedule cosine_decay_schedule cosine_onecycle_schedule exponential_decay
    join_schedules linear_onecycle_schedule linear_schedule polynomial_schedule
    warmup_constant_schedule warmup_cosine_decay_schedule warmup_exponential_decay_schedule
"""
_OPTIMIZERS = """
    adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad fromage lamb lars
    lion noisy_sgd novograd optimistic_gradient_descent polyak_sgd radam rmsprop sgd sign_sgd signum
    sm3 yogi
"""
_LINKS_OF_CHAINS = """
    adaptive_grad_clip add_decayed_weights apply_if_finite centralize chain clip clip_by_block_rms
    clip_by_global_norm ema masked normalize_by_update_norm scale scale_by_adadelta scale_by_adam
    scale_by_adamax scale_by_adan scale_by_amsgrad scale_by_belief
    scale_by_distance_over_gradients scale_by_learning_rate scale_by_lion scale_by_novograd
    scale_by_optimistic_gradient scale_by_param_block_norm scale_by_param_block_rms scale_by_radam
    scale_by_rms scale_by_rss scale_by_schedule scale_by_sign scale_by_sm3 scale_by_stddev
    scale_by_trust_ratio scale_by_yogi trace zero_nans
"""
_CONTRIBUTED = """
    acprop ademamix cocob dadapt_adamw galore madgrad momo momo_adam muon prodigy reduce_on_plateau
    scale_by_acprop scale_by_ademamix scale_by_simplified_ademamix simplified_ademamix
"""

OPTAX: Mapping[str, frozenset[str]] = {
    "optax": frozenset(f"{_SCHEDULES} {_OPTIMIZERS} {_LINKS_OF_CHAINS}".split()),
    "optax.contrib": frozenset(_CONTRIBUTED.split()),
}
"""Module → its constructors."""
