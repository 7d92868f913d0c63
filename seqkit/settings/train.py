"""How it is trained: `[train]`, with one Struct per optimizer and per schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from seqkit.metrics.table import checkpoint_metrics
from seqkit.settings.base import HARMLESS, LIMIT, Settings

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AveragedSGD",
    "Constant",
    "CosineDecay",
    "InverseSquareRoot",
    "LinearDecay",
    "Muon",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "Train",
]

if TYPE_CHECKING:
    MetricName = str
else:  # the choices are those of the table, which no type checker can know
    MetricName = Literal["auto", *checkpoint_metrics()]

Beta = Annotated[float, Meta(ge=0, lt=1)]
Betas = Annotated[tuple[Beta, Beta], Meta(description="decay rates of the gradient's two moments")]
Decay = Annotated[float, Meta(ge=0, description="weight decay, decoupled from the gradient")]
WarmUp = Annotated[int, Meta(ge=0, description="steps over which the rate rises from zero")]


class AdamW(Settings, frozen=True, kw_only=True, tag_field="kind", tag="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    betas: Betas = (0.9, 0.98)
    weight_decay: Decay = 0.01


class Adam(Settings, frozen=True, kw_only=True, tag_field="kind", tag="adam"):
    """Adam (Kingma and Ba, 2015)."""

    betas: Betas = (0.9, 0.98)


class SGD(Settings, frozen=True, kw_only=True, tag_field="kind", tag="sgd"):
    """Stochastic gradient descent with momentum."""

    momentum: Annotated[float, Meta(ge=0, lt=1, description="share of the last update that is kept")] = 0.0
    weight_decay: Decay = 0.0


class RMSprop(Settings, frozen=True, kw_only=True, tag_field="kind", tag="rmsprop"):
    """RMSprop (Tieleman and Hinton, 2012)."""

    smoothing: Annotated[float, Meta(ge=0, lt=1, description="decay rate of the squared gradient")] = 0.99
    momentum: Annotated[float, Meta(ge=0, lt=1, description="share of the last update that is kept")] = 0.0


class Muon(Settings, frozen=True, kw_only=True, tag_field="kind", tag="muon"):
    """Muon for hidden matrices (Jordan et al., 2024), AdamW at `train.learning_rate` for everything else."""

    rate: Annotated[float, Meta(gt=0, le=1e6, description="base rate of the hidden matrices")] = 0.02
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Nesterov momentum of the hidden matrices")] = 0.95
    iterations: Annotated[int, Meta(ge=1, le=100, description="Newton-Schulz steps")] = 5
    betas: Betas = (0.9, 0.98)
    weight_decay: Decay = 0.0


class AveragedSGD(Settings, frozen=True, kw_only=True, tag_field="kind", tag="averaged_sgd"):
    """Plain steps, averaged once validation stops improving (Polyak and Juditsky, 1992; Merity et al., 2018)."""

    patience: Annotated[
        int, Meta(ge=1, description="averaging begins when the score was better this many validations ago")
    ] = 5
    weight_decay: Decay = 0.0


Optimizer = AdamW | Adam | SGD | RMSprop | Muon | AveragedSGD


class Constant(Settings, frozen=True, kw_only=True, tag_field="kind", tag="constant"):
    """The base rate, after warm-up."""

    warmup: WarmUp = 0


class InverseSquareRoot(Settings, frozen=True, kw_only=True, tag_field="kind", tag="inverse_square_root"):
    """Falls with the square root of the step, after warm-up (Vaswani et al., 2017)."""

    warmup: WarmUp = 4000


class LinearDecay(Settings, frozen=True, kw_only=True, tag_field="kind", tag="linear"):
    """Holds the base rate, then falls in a straight line to zero as the limit is reached."""

    warmup: WarmUp = 200
    hold: Annotated[float, Meta(ge=0, le=1, description="share of the run during which the rate stays up")] = 0.0


class CosineDecay(Settings, frozen=True, kw_only=True, tag_field="kind", tag="cosine"):
    """Falls along half a cosine wave to zero as the limit is reached (Loshchilov and Hutter, 2017)."""

    warmup: WarmUp = 200


Schedule = LinearDecay | CosineDecay | InverseSquareRoot | Constant


class Train(Settings, frozen=True, kw_only=True):
    """Limits, batches, optimizer, validation and saving of one run."""

    steps: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="stop after this many optimizer steps"), LIMIT
    ] = None
    epochs: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="stop after this many passes over the training data"), LIMIT
    ] = None
    minutes: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="stop after this much wall time, start-up, validation and saving included"),
        LIMIT,
    ] = None
    batch_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["auto"],
        Meta(
            description="target tokens per batch, padding included, over all processes together; auto: as many as fit "
            "the device, found when a run begins"
        ),
    ] = 4096
    accumulate: Annotated[int, Meta(ge=1, description="batches per optimizer step")] = 1
    learning_rate: Annotated[float, Meta(gt=0, description="base rate; the schedule scales it")] = 1e-3
    optimizer: Annotated[Optimizer, Meta(description="update rule")] = AdamW()
    schedule: Annotated[Schedule, Meta(description="course of the learning rate")] = InverseSquareRoot()
    clip: Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="scale gradients down to this norm")] = 1.0
    label_smoothing: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | Literal["auto"],
        Meta(description="probability spread over the vocabulary; auto: 0.1 for translation, else 0"),
    ] = "auto"
    r_drop: Annotated[
        float,
        Meta(ge=0, description="weight of the agreement of two readings under dropout (R-Drop; doubles the work)"),
    ] = 0.0
    average: Annotated[
        float, Meta(ge=0, lt=1, description="decay of a moving average of the weights, used for validation; 0 = off")
    ] = 0.0
    precision: Annotated[
        Literal["auto", "float32", "tf32", "bfloat16"],
        Meta(
            description="arithmetic of the layers; auto: bfloat16 where this device is faster with it at this width; "
            "tf32: float32 whose products a GPU rounds (float32 elsewhere)"
        ),
    ] = "auto"
    recompute: Annotated[
        bool,
        Meta(description="work out self-attention layers again in the backward pass: less memory, a third more time"),
        HARMLESS,
    ] = False
    output_precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Meta(description="arithmetic of the output layer's products; auto: bfloat16 where the processor has it"),
    ] = "auto"
    compile: Annotated[
        bool | Literal["auto"],
        Meta(
            description="have torch compile a Transformer: a minute at the start, for faster steps on a GPU; auto: off"
        ),
        HARMLESS,
    ] = "auto"
    processes: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="data-parallel processes; auto: on a CPU one a core, fewer where a batch is small"),
        HARMLESS,
    ] = "auto"
    sharded: Annotated[
        bool,
        Meta(
            description="share parameters, gradients and optimizer state out over the processes (fully_shard), for "
            "models beyond one device; more exchange"
        ),
        HARMLESS,
    ] = False
    seed: Annotated[int, Meta(ge=0, description="of initial weights, data order, dropout and sampling")] = 1
    validate_every: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="steps between validations; default: once an epoch, at least every 1000 steps"),
        HARMLESS,
    ] = None
    validate_beam: Annotated[int, Meta(ge=1, description="beam width of the validation translations"), HARMLESS] = 1
    validate_lines: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="translate at most this many development lines; default: all"),
        HARMLESS,
    ] = None
    metric: Annotated[
        MetricName,
        Meta(
            description="which development score makes a checkpoint the best; auto: bleu for translation, loss for "
            "language models, f1 for labelling"
        ),
    ] = "auto"
    patience: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="stop after this many validations without improvement; default: never"),
        HARMLESS,
    ] = None
    target: Annotated[
        float | None, Meta(description="stop as soon as the development score reaches this value"), HARMLESS
    ] = None
    save_every: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="steps between checkpoints; default: at each validation"),
        HARMLESS,
    ] = None
    save_minutes: Annotated[float, Meta(gt=0, description="save at least this often"), HARMLESS] = 10.0
    keep: Annotated[int, Meta(ge=1, description="checkpoints kept, besides the best"), HARMLESS] = 3
    log_seconds: Annotated[
        float, Meta(gt=0, description="seconds between progress lines without a terminal"), HARMLESS
    ] = 30.0
    keep_heap: Annotated[
        bool,
        Meta(description="let the C library keep freed memory (Linux CPU; faster, holds on to its peak)"),
        HARMLESS,
    ] = True
    cheap_dropout: Annotated[
        bool,
        Meta(description="draw one random byte for an element that may drop out (CPU; faster), not torch's own way"),
    ] = True
    fused_optimizer: Annotated[
        bool,
        Meta(description="update all weights in torch's fused kernels (faster), not one tensor after the other"),
        HARMLESS,
    ] = True

    @property
    def budget(self) -> int:
        """`batch_tokens` as a number: the default as long as none was found."""
        return 4096 if self.batch_tokens == "auto" else self.batch_tokens
