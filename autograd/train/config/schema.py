"""Every key of a training config: its type, default, limits and meaning. ``docs/config.md`` is made from this file.

    >>> from autograd.train.config import Config, parse
    >>> Config().training.lr
    0.0001
    >>> parse({"training": {"lr": 0.1}}, "example").training.lr
    0.1

Captioning's keys have their place; the task itself is not available yet.
"""

from dataclasses import dataclass
from typing import Literal

from .keys import Named, Options, key, section

CAPTIONING = ("captioning",)
Task = Literal["classification", "regression", "language_modelling", "captioning"]


@dataclass(frozen=True)
class Data:
    """What is trained on, and how batches are made of it."""

    dataset: Named | None = key(None, "A registered dataset: its name, or its name and options.", kind="dataset")
    images_dir: str | None = key(
        None,
        "Folder with the images; relative paths start where the command is run.",
        tasks=("classification", "regression", "captioning"),
    )
    labels_file: str | None = key(
        None,
        "CSV file with the columns image,label: the label of each image of images_dir.",
        tasks=("classification", "regression"),
    )
    caption_file: str | None = key(
        None,
        "CSV file with the header image,caption; an image may have several rows.",
        tasks=CAPTIONING,
    )
    text_file: str | None = key(None, "Text file in UTF-8 to model.", tasks=("language_modelling",))
    vocab_path: str | None = key(
        None,
        """File of the vocabulary: read if it is there, else made from the training texts and written. It is JSON
        (word_to_idx, freq_threshold) whatever its name ends with; a pickle is refused.""",
        tasks=("language_modelling", "captioning"),
    )
    image_size: int = key(
        224,
        """Side of the images after preparation, in pixels. They are resized to 256/224 of it, then cropped to it: at random
        in training, at the centre in validation.""",
        low=1,
        high=16384,
        tasks=("classification", "regression", "captioning"),
    )
    sequence_length: int = key(128, "Tokens of one example.", low=1, tasks=("language_modelling",))
    batch_size: int = key(
        32, "Examples of one batch. With training.accumulate k, a step takes k batches.", low=1, high=2**31
    )
    num_workers: int = key(
        4,
        "Processes that prepare batches; 0 prepares them in the training process. The batches do not depend on it.",
        low=0,
        high=1024,
    )
    val_split: float = key(
        0.2,
        """Share of the data held out for validation, drawn with the seed. Not used where the dataset brings validation data
        of its own; 0 holds nothing out.""",
        low=0.0,
        below=1.0,
    )
    freq_threshold: int = key(
        5,
        "How often a word must occur to be in the vocabulary; rarer ones become <UNK>.",
        low=1,
        tasks=("language_modelling", "captioning"),
    )
    shuffle: bool = key(True, "Whether each epoch takes the training data in an order of its own, drawn with the seed.")
    balance: bool = key(
        False, "Whether classes are drawn equally often, whatever their shares of the data.", tasks=("classification",)
    )
    drop_last: bool = key(False, "Whether a last batch of fewer than batch_size examples is left out in training.")


@dataclass(frozen=True)
class Model:
    """What is trained."""

    architecture: Named | None = key(
        None, "A registered model: its name, or its name and options. By default the task's own.", kind="model"
    )
    dropout: float = key(
        0.5, "Probability with which an activation is dropped in training, in models with dropout.", low=0.0, below=1.0
    )
    embed_size: int = key(
        512, "Length of the vector that stands for a word.", low=1, tasks=("language_modelling", "captioning")
    )
    decoder_dim: int = key(512, "Length of the LSTM decoder's hidden state.", low=1, tasks=CAPTIONING)
    encoder_dim: int = key(512, "Length of the image encoder's output features.", low=1, tasks=CAPTIONING)
    encoder_fine_tune: bool = key(
        False,
        """Whether a pretrained encoder is trained too. If not, its parameters (those that training.finetune names) stay as they
        are. Models without an encoder are trained whole either way.""",
    )
    encoded_image_size: int = key(
        14, "Side of the encoder's feature map, in cells.", low=1, high=1024, tasks=CAPTIONING
    )


@dataclass(frozen=True)
class Training:
    """How long and how the parameters move, and where the run is saved."""

    epochs: int = key(50, "Most epochs; early stopping may end the run before.", low=1, high=2**31)
    max_steps: int | None = key(None, "Most optimizer steps, if the epochs are not over before.", low=1, high=2**63)
    loss: Named | None = key(
        None,
        "A registered loss: its name, or its name and options. By default cross_entropy, and mse for regression.",
        kind="loss",
    )
    lr: float = key(1e-4, "Learning rate; the schedule starts from it.", low=0.0)
    lr_mode: Literal["continue", "finetune"] = key(
        "continue",
        """continue: every parameter has the rate lr. finetune: the pretrained encoder (see finetune) has finetune_lr and the
        rest lr; needs model.encoder_fine_tune: true. A schedule moves both rates in proportion.""",
    )
    finetune_lr: float = key(1e-5, "Learning rate of the pretrained encoder with lr_mode: finetune.", low=0.0)
    finetune: tuple[str, ...] = key(
        ("encoder",),
        "Modules, by their dotted names, that are the pretrained encoder; their submodules belong to them.",
    )
    grad_clip: float = key(
        5.0,
        """Largest global L2 norm of the gradients of a step; where it is above, all are scaled down by one factor. 0 does not
        clip. By default 0 where optimizer.chain clips by the global norm itself.""",
        low=0.0,
    )
    compile: bool = key(False, "Whether steps run as compiled graphs; needs the package hammer.")
    exact: bool = key(
        True,
        """Whether compiled steps have the same results to the bit as steps that are not compiled. false: they differ by rounding,
        and are machine code where the extra compile is installed. Only with compile: true.""",
    )
    accumulate: int = key(
        1, "Batches whose gradients make one step, as one batch of them all would.", low=1, high=2**31
    )
    micro_batches: int | None = key(
        None,
        """Parts that each batch is computed in, shared out among the ranks of an MPI job (see docs/agents.md). The bits of a run
        depend on it, but not on the number of ranks. null: 8, or one for each rank if there are more; a single process computes
        batches whole.""",
        low=1,
        high=2**31,
    )
    timeline: str | None = key(
        None,
        """File to which the first rank writes, when training ends or Ctrl-C stops it, what every rank computed, waited for and sent
        (see docs/agents.md): NAME.html is a page, with the Chrome trace NAME.json beside it; NAME.json is the trace alone. Its
        folder must be there.""",
    )
    use_amp: bool = key(
        True,
        """Automatic mixed precision: fp16 with loss scaling on a GPU; on the CPU it is switched off. precision.dtype asks for
        a precision on any device; by default use_amp then agrees with it.""",
    )
    nonfinite: Literal["error", "skip"] = key(
        "error",
        "What a step does whose gradients are not finite (after loss scaling has had its say): stop the run, or be left out.",
    )
    monitor: str = key(
        "val_loss",
        "The metric that picks the best checkpoint, and that the plateau scheduler and early stopping watch.",
    )
    monitor_mode: Literal["min", "max"] = key("min", "Whether a smaller or a larger value of monitor is better.")
    checkpoint_dir: str = key("./checkpoints", "Folder of the checkpoints; it is made if it is not there.")
    save_every_epoch: bool = key(
        False, "Whether a checkpoint of every epoch is kept, beside the last and the best ones."
    )
    save_every_steps: int | None = key(
        None,
        "Steps from one checkpoint to the next within an epoch; null saves at the ends of epochs only.",
        low=1,
        high=2**63,
    )
    keep_last: int = key(1, "How many of the newest checkpoints are kept.", low=1, high=2**31)
    keep_best: int = key(1, "How many of the best checkpoints by monitor are kept.", low=0, high=2**31)
    resume_from: str | None = key(
        None,
        """Checkpoint to go on from, or a folder of them: its newest whole one. Everything is restored: parameters, optimizer,
        schedule, loss scale, random streams, place in the data, best metric. null starts anew.""",
    )


@dataclass(frozen=True)
class Optimizer:
    """How gradients become updates."""

    chain: tuple[Named, ...] = key(
        (Named("adamw"),),
        """Gradient transforms, one after another: names, or names and options as in {name: adamw, weight_decay: 0.1}. The learning
        rate comes from training.lr and the scheduler: the last link must take it.""",
        kind="link",
    )


@dataclass(frozen=True)
class Scheduler:
    """How the learning rate moves."""

    type: Literal["ReduceLROnPlateau", "StepLR", "CosineAnnealingLR", "OneCycleLR", "LinearLR", "constant"] = key(
        "ReduceLROnPlateau",
        """ReduceLROnPlateau: times factor when training.monitor has not improved for patience epochs. StepLR: times factor every
        step_size epochs. CosineAnnealingLR: half a cosine wave down to min_lr. OneCycleLR: up to max_lr and down again
        (Smith and Topin 2018). LinearLR: a straight line down to min_lr. constant: lr as it is.""",
    )
    factor: float = key(0.5, "What the rate is multiplied by (ReduceLROnPlateau, StepLR).", above=0.0, high=1.0)
    patience: int = key(
        2,
        "Epochs without improvement that are waited out before the rate is reduced (ReduceLROnPlateau).",
        low=0,
        high=2**31,
    )
    min_lr: float = key(
        1e-7,
        "The rate does not go below this (ReduceLROnPlateau), or ends there (CosineAnnealingLR, LinearLR).",
        low=0.0,
    )
    threshold: float = key(1e-4, "How much better counts as an improvement (ReduceLROnPlateau).", low=0.0)
    threshold_mode: Literal["rel", "abs"] = key(
        "rel", "Whether threshold is a share of the best value, or a difference (ReduceLROnPlateau)."
    )
    cooldown: int = key(
        0, "Epochs after a reduction in which none is counted as bad (ReduceLROnPlateau).", low=0, high=2**31
    )
    step_size: int = key(10, "Epochs from one reduction to the next (StepLR).", low=1, high=2**31)
    warmup_steps: int = key(
        0,
        "Steps in which the rate first rises in equal parts; not for OneCycleLR, which rises by itself.",
        low=0,
        high=2**31,
    )
    max_lr: float | None = key(None, "The highest rate (OneCycleLR); by default training.lr.", above=0.0)
    pct_start: float = key(0.3, "Share of the steps in which the rate rises (OneCycleLR).", above=0.0, below=1.0)
    div_factor: float = key(25.0, "The rate starts at max_lr / div_factor (OneCycleLR).", low=1.0)
    final_div_factor: float = key(1e4, "It ends at the first rate / final_div_factor (OneCycleLR).", low=1.0)
    anneal: Literal["cos", "linear"] = key("cos", "The shape of rise and fall (OneCycleLR).")
    three_phase: bool = key(
        False, "Whether the fall mirrors the rise, and a third phase goes from the first rate to the last (OneCycleLR)."
    )


@dataclass(frozen=True)
class EarlyStopping:
    """When the run ends before its epochs are over."""

    enabled: bool = key(True, "Whether the run may end early.")
    patience: int = key(
        5, "Epochs without improvement of training.monitor after which the run ends.", low=1, high=2**31
    )
    min_delta: float = key(1e-4, "An improvement must be larger than this to count.", low=0.0)
    track_overfitting: bool = key(True, "Whether overfitting may end the run too.")
    overfitting_gap_threshold: float = key(
        0.5, "An epoch overfits if its train_loss - val_loss is below minus this.", low=0.0
    )
    overfitting_patience: int = key(
        3, "Epochs of overfitting, one after another, after which the run ends.", low=1, high=2**31
    )


@dataclass(frozen=True)
class WandB:
    """Where Weights & Biases files the run."""

    project: str | None = key(
        None, "Project; by default image-captioning for the task captioning, hammer for any other."
    )
    entity: str | None = key(None, "User or team; by default that of the person who is logged in.")


@dataclass(frozen=True)
class Logging:
    """Where the run's figures go."""

    console: bool = key(True, "Whether a line of figures for each epoch, and a progress bar on a terminal, are shown.")
    csv: bool = key(False, "Whether figures are written to metrics.csv in dir.")
    jsonl: bool = key(True, "Whether figures are written to metrics.jsonl in dir.")
    dir: str | None = key(None, "Folder of these files; by default training.checkpoint_dir.")
    every_steps: int = key(
        50, "Steps from one row of training figures to the next; epochs have theirs anyway.", low=1, high=2**31
    )
    statistics: bool = key(False, "Whether norms and extremes of gradients and weights are among the figures.")
    tensorboard: bool = key(False, "Whether figures are written for TensorBoard.")
    tensorboard_dir: str = key("./runs", "Folder of TensorBoard's files.")
    use_wandb: bool = key(False, "Whether figures go to Weights & Biases; needs the package wandb and `wandb login`.")
    wandb: WandB = section(WandB, "Where Weights & Biases files the run.")


@dataclass(frozen=True)
class Metrics:
    """What is measured in validation, beside the loss."""

    names: tuple[Named, ...] | None = key(
        None,
        "Registered metrics: names, or names and options. By default those of the task.",
        kind="metric",
    )
    bleu: bool = key(True, "Whether BLEU is computed in validation, where the task generates text.", tasks=CAPTIONING)
    use_sacrebleu_if_available: bool = key(
        True, "Whether sacrebleu computes BLEU if it is installed.", tasks=CAPTIONING
    )


@dataclass(frozen=True)
class Precision:
    """In which precision is computed."""

    dtype: Literal["fp32", "fp16", "bf16"] | None = key(
        None,
        """fp32 computes in float32; fp16 and bf16 do products of matrices and convolutions in 16 bits, with float32 weights.
        null leaves it to training.use_amp.""",
    )
    loss_scale: float | None = key(
        None, "A fixed factor of the loss; null scales dynamically with fp16 and not at all otherwise.", above=0.0
    )
    init_scale: float = key(65536.0, "First factor of dynamic loss scaling.", above=0.0)
    growth_factor: float = key(2.0, "What the factor is multiplied by after growth_interval good steps.", above=1.0)
    backoff_factor: float = key(0.5, "What it is multiplied by after a step that overflowed.", above=0.0, below=1.0)
    growth_interval: int = key(2000, "Good steps, one after another, before it grows.", low=1, high=2**31)


@dataclass(frozen=True)
class Checkpointing:
    """Trading time for memory: activations that are computed again in the backward pass. Files are training.checkpoint_dir."""

    segments: int | Literal["auto"] | None = key(
        None,
        "Parts into which a sequential model is cut; auto takes about √n. null keeps every activation.",
        low=1,
        high=2**31,
    )
    budget_mb: float | None = key(
        None, "Megabytes (10⁶ bytes) that activations may take; what to keep is chosen to fit.", above=0.0
    )


@dataclass(frozen=True)
class Compression:
    """Compression of gradients, as for sending them."""

    method: Named | None = key(
        None, "A registered compressor: its name, or its name and options. null does not compress.", kind="compressor"
    )
    error_feedback: bool = key(True, "Whether what compression loses is added to the next gradient.")


@dataclass(frozen=True)
class Config:
    """A training run. A file may leave out any key; what it leaves out has its default."""

    task: Task = key("classification", "What is learned; it decides the defaults of model, loss and metrics.")
    name: str = key("run", "The run's name in logs; by default the config file's name without its ending.")
    device: str = key(
        "cuda",
        """cpu, cuda or cuda:N. cuda takes a GPU if there is a usable one, and otherwise says so and goes on on the CPU;
        cuda:N insists on that GPU.""",
    )
    seed: int = key(
        42,
        "From it come all random numbers: first weights, order of the data, split, dropout, augmentation.",
        low=0,
        high=2**64 - 1,
    )
    data: Data = section(Data, "What is trained on, and how batches are made of it.")
    model: Model = section(Model, "What is trained.")
    training: Training = section(Training, "How long and how the parameters move, and where the run is saved.")
    optimizer: Optimizer = section(Optimizer, "How gradients become updates.")
    scheduler: Scheduler = section(Scheduler, "How the learning rate moves.")
    early_stopping: EarlyStopping = section(EarlyStopping, "When the run ends before its epochs are over.")
    logging: Logging = section(Logging, "Where the run's figures go.")
    metrics: Metrics = section(Metrics, "What is measured in validation, beside the loss.")
    precision: Precision = section(Precision, "In which precision is computed.")
    checkpointing: Checkpointing = section(
        Checkpointing, "Trading time for memory: activations that are computed again in the backward pass."
    )
    compression: Compression = section(Compression, "Compression of gradients, as for sending them.")
    vortex: Options | None = key(
        None,
        "VortexGrad's settings; it goes before optimizer.chain. {} takes its defaults, null leaves it out.",
        kind="feature",
    )
    energy: Options | None = key(None, "Energy meter and gate.", kind="feature")
    agents: Options | None = key(None, "Several processes that train together.", kind="feature")
