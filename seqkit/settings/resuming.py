"""Which settings may change when a run goes on: every one is in this table, or a test fails.

    harmless   how the run is watched, saved, shared out and searched afterwards: may change at any time
    limit      how long it goes on: may change, but where the learning rate falls towards the limit only when wished
    binding    what a step does, or which step is the best: another value is another run

Files to train on are harmless by name, as their content is checked by its own fingerprint.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["RULES", "Rule", "rule_of"]

Rule = Literal["harmless", "limit", "binding"]

_LIMITS = "train.steps train.epochs train.minutes"

_HARMLESS = """
name out
data.train data.source data.target
train.processes train.sharded train.validate_every train.validate_beam train.validate_lines train.patience train.target
train.save_every train.save_minutes train.keep train.log_seconds train.keep_heap
train.fused_optimizer train.compile train.recompute
search.method search.beam search.nbest search.patience search.length_reward search.length_normalisation
search.coverage_penalty search.minimum_length search.maximum_length search.maximum_ratio search.maximum_extra
search.no_repeat search.repetition_penalty search.ban search.groups search.diversity search.temperature search.top_k
search.nucleus search.seed search.samples search.utility search.language_model search.language_model_weight
search.precision search.batch_tokens
"""

_BINDING = """
data.kind data.dev data.maximum_length data.bad_utf8 data.drop_overlap data.window data.partition
text.kind text.normalise text.joint text.from text.algorithm text.size text.byte_fallback text.character_coverage
text.sampling text.minimum_count text.split
model.kind model.width model.encoder_layers model.decoder_layers model.layers model.heads model.feed_forward
model.activation model.norm model.positions model.maximum_positions model.tied model.cell model.bidirectional
model.embedding model.attention model.input_feeding model.dropout model.attention_dropout model.input_dropout
model.hidden_dropout model.locked model.embedding_dropout model.weight_drop model.activation_penalty
model.slowness_penalty model.word_dropout model.layer_drop model.order model.smoothing model.added
train.batch_tokens train.accumulate train.learning_rate train.clip train.label_smoothing train.average train.precision
train.output_precision train.cheap_dropout train.r_drop train.seed train.metric
train.optimizer.kind train.optimizer.betas train.optimizer.weight_decay train.optimizer.momentum
train.optimizer.smoothing train.optimizer.rate train.optimizer.iterations train.optimizer.patience
train.schedule.kind train.schedule.warmup train.schedule.hold
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_LIMITS.split(), "limit"),
    **dict.fromkeys(_HARMLESS.split(), "harmless"),
    **dict.fromkeys(_BINDING.split(), "binding"),
}


def rule_of(path: str) -> Rule:
    """What may become of the setting with this dotted path."""
    return RULES[path]
