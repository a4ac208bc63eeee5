"""A config becomes a Trainer and its data."""

import importlib.util
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import autograd
from autograd import backend, train
from autograd.checkpointing import checkpoint_sequential
from autograd.gradients import GradientTransform, chain, partition, unscale
from autograd.gradients.compression import compress
from autograd.nn import Module, Sequential
from autograd.optim import Optimizer
from autograd.train import Callback, History, Loader, Metric, Trainer, loggers
from autograd.train.config import Config, ConfigError, Named, build, to_mapping
from autograd.train.rates import schedule
from hammer.agents import Alone, Communicator, Recorder, Team, together

from ..seeds import Streams
from . import sources
from .sources import Source

DEFAULTS: dict[str, dict[str, Any]] = {
    "classification": {"loss": Named("cross_entropy"), "metrics": (Named("accuracy"),)},
    "regression": {"loss": Named("mse"), "metrics": (Named("r2"),)},
    "language_modelling": {"loss": Named("cross_entropy"), "metrics": (Named("perplexity"), Named("accuracy"))},
}
"""What the keys training.loss and metrics.names stand for where they are not given."""
NOTED = 10_000
"""Operations and steps of each rank that a timeline shows, the last ones: of more, the files are slow to open."""


@dataclass(frozen=True)
class Run:
    """A training run that is ready to start.

    Attributes:
        trainer, train, val: what ``fit`` needs; val may be None.
        said: lines for people: what there is, and what a setting came to.
        comm: the ranks; a ``Recorder`` with training.timeline.
    """

    config: Config
    trainer: Trainer
    train: Loader
    val: Loader | None
    said: list[str]
    comm: Communicator

    def fit(self) -> History:
        return self.trainer.fit(
            self.train, self.val, self.config.training.epochs, max_steps=self.config.training.max_steps
        )

    def save_timeline(self) -> list[Path]:
        """Write what training.timeline asks for, on the first rank; all of them call it. Returns the files written here."""
        path, comm = self.config.training.timeline, self.comm
        if path is None:
            return []
        assert isinstance(comm, Recorder)
        timeline = together(comm, comm.timeline)
        return timeline.save(path) if comm.rank == 0 else []


class _Steps(Callback):
    """Marks the steps of a process that trains by itself; a ``Team`` marks its own."""

    def __init__(self, recorder: Recorder):
        super().__init__()
        self.recorder = recorder

    def on_step_end(self, trainer: Any) -> None:
        self.recorder.step()


def prepare(config: Config, comm: Communicator | None = None) -> Run:
    """Build everything that a config describes, for one of the ranks of ``comm``; None: for this process alone.

    Raises:
        ConfigError, DataError: settings that do not go together, or data that cannot be used.
        ImportError: a package that a setting needs is not installed; the message names it.
    """
    streams = Streams(config.seed, config.task, 0)
    said: list[str] = []
    device = _device(config.device, said)
    training, val, source = _data(config)
    model = _model(config, source, streams)
    if device != "cpu":
        model.to(device)
    precision = config.precision.dtype or ("fp16" if config.training.use_amp and device != "cpu" else "fp32")
    comm = comm or Alone()
    plateau, callbacks = _callbacks(config, val is not None, comm.size)
    steps_per_epoch = math.ceil(len(training) / config.training.accumulate)
    steps = min(config.training.epochs * steps_per_epoch, config.training.max_steps or math.inf)
    optimizer, frozen = _optimizer(config, model, steps_per_epoch, int(steps), streams, plateau)
    comm = _recorded(config, comm)
    team = _team(config, comm, said)
    if team is None and isinstance(comm, Recorder):
        callbacks.append(_Steps(comm))
    trainer = Trainer(
        model,
        build("loss", config.training.loss or DEFAULTS[config.task]["loss"]),
        optimizer,
        metrics=_metrics(config),
        precision=precision,
        scaling=_scaling(config, precision),
        accumulate=config.training.accumulate,
        compile=config.training.compile,
        exact=config.training.exact,
        clip=config.training.grad_clip or None,
        nonfinite=config.training.nonfinite,
        callbacks=callbacks,
        loggers=_loggers(config),
        log_every=config.logging.every_steps,
        checkpoints=train.CheckpointFolder(
            config.training.checkpoint_dir,
            keep_last=config.training.keep_last,
            keep_best=config.training.keep_best,
            every_epoch=config.training.save_every_epoch,
            mode=config.training.monitor_mode,
        ),
        save_every=config.training.save_every_steps,
        monitor=_monitor(config, val is not None),
        mode=config.training.monitor_mode,
        about={"config": to_mapping(config), "versions": versions()},
        agents=team,
    )
    count = sum(p.size for p in model.parameters())
    held = f", {len(val.dataset)} to validate on" if val is not None else ""
    said.append(f"data: {source.about or config.data.dataset}; {len(training.dataset)} examples to train on{held}")
    said.append(f"model: {count:,} parameters" + (f", of which {frozen:,} stay as they are" if frozen else ""))
    return Run(config, trainer, training, val, said, comm)


def _recorded(config: Config, comm: Communicator) -> Communicator:
    """The ranks with a record of what they do, for the timeline; of several in any case, so that those that are behind are named."""
    path = config.training.timeline
    if path is None and comm.size == 1:
        return comm
    return Recorder(comm, most=1000 if path is None else NOTED)


def _team(config: Config, comm: Communicator, said: list[str]) -> Team | None:
    """The ranks that share the batches, if there are several, or if the config asks for their bits."""
    t = config.training
    if comm.size == 1 and t.micro_batches is None:
        return None
    parts = t.micro_batches or max(8, comm.size)
    if parts < comm.size:
        raise ConfigError(f"training.micro_batches: {parts} parts of a batch are too few for {comm.size} ranks")
    said.append(f"agents: {comm.size} rank{'s' * (comm.size > 1)}, batches in {parts} micro-batches")
    return Team(comm, parts)


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {"hammer": autograd.__version__, "numpy": np.__version__, "python": platform.python_version()}


def _device(wanted: str, said: list[str]) -> str:
    if wanted == "cpu":
        return "cpu"
    try:
        backend.to_device(np.zeros(1, np.float32), wanted)
    except Exception as error:  # noqa: BLE001  CuPy has many ways to say that there is no usable GPU
        if wanted != "cuda":
            raise ConfigError(f"device: {wanted} cannot be used: {error}") from None
        said.append("device: there is no usable GPU, so the run goes on on the CPU; device=cpu says so from the start")
        return "cpu"
    return wanted


def _data(config: Config) -> tuple[Loader, Loader | None, Source]:
    data = config.data
    source = sources.of_config(config, lambda named: build("dataset", named, seed=config.seed))
    training, val = source.train, source.val
    if val is None and data.val_split:
        stratify = config.task == "classification"
        training, val = train.split(training, data.val_split, seed=config.seed, stratify=stratify)
    if source.standardise:
        training, val = sources.standardised(training, val)

    def loader(part: Any, **options: Any) -> Loader:
        workers = 0 if hasattr(part, "batch") else data.num_workers  # arrays are there already
        return Loader(part, data.batch_size, seed=config.seed, workers=workers, **options)

    shuffle = {"shuffle": data.shuffle, "balance": data.balance, "drop_last": data.drop_last}
    return loader(training, **shuffle), None if val is None else loader(val), source


def _model(config: Config, source: Source, streams: Streams) -> Module:
    usual = {"classification": "cnn" if len(source.shape) == 3 else "mlp", "regression": "mlp"}
    named = config.model.architecture or Named(usual.get(config.task, "next_word"))
    model = build(
        "model",
        named,
        shape=source.shape,
        outputs=source.outputs,
        rng=streams("init"),
        dropout=config.model.dropout,
        embed_size=config.model.embed_size,
    )
    if not isinstance(model, Module):
        raise ConfigError(
            f"model.architecture: {named.name} gave {type(model).__name__}; it must return an autograd.nn.Module"
        )
    c = config.checkpointing
    if c.segments is None and c.budget_mb is None:
        return model
    if not isinstance(model, Sequential):
        raise ConfigError(f"checkpointing: the layers of a Sequential can be checkpointed, and {named.name} is none")
    budget = None if c.budget_mb is None else int(c.budget_mb * 1e6)
    return checkpoint_sequential(model, c.segments, budget=budget)  # type: ignore[arg-type]


def _optimizer(
    config: Config,
    model: Module,
    steps_per_epoch: int,
    steps: int,
    streams: Streams,
    plateau: train.ReduceLROnPlateau | None,
) -> tuple[Optimizer, int]:
    """The optimizer, and how many parameters are frozen."""
    t, c = config.training, config.compression
    pretrained = {
        name for name, _ in model.named_parameters() if any(f"{name}.".startswith(f"{part}.") for part in t.finetune)
    }
    if t.lr_mode == "finetune" and not pretrained:
        raise ConfigError(
            f"training.finetune: the model has no module {' or '.join(t.finetune)}, so lr_mode: finetune has no encoder"
        )
    frozen = 0
    for name, parameter in model.named_parameters():
        if name in pretrained and not config.model.encoder_fine_tune:
            parameter.requires_grad = False
            frozen += parameter.size
    base = schedule(config.scheduler, t.lr, steps_per_epoch, steps)

    def rule(lr: float) -> GradientTransform:
        rate: Any = lr
        if base is not None:
            share = lr / t.lr if t.lr else 1.0
            rate = base if share == 1.0 else lambda step: base(step) * share
            rate = rate if plateau is None else plateau.over(rate)
        return chain(*(build("link", link, lr=rate) for link in config.optimizer.chain))

    before = []
    if c.method is not None:
        before.append(compress(build("compressor", c.method), c.error_feedback, seed=streams.sequence("noise")))
    if config.vortex is not None:
        before.append(build("feature", Named("vortex", config.vortex))())
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if t.lr_mode == "finetune":
        groups = ["encoder" if name in pretrained else "rest" for name, _ in trained]
        last = partition({"encoder": rule(t.finetune_lr), "rest": rule(t.lr)}, groups)
    else:
        last = rule(t.lr)
    return Optimizer([p for _, p in trained], chain(*before, last)), frozen


def _scaling(config: Config, precision: str) -> GradientTransform | None:
    p = config.precision
    if precision != "fp16" and p.loss_scale is None:
        return None
    if p.loss_scale is not None:
        return unscale(p.loss_scale, growth=1.0, backoff=1.0)  # it stays; a step that overflows is left out
    return unscale(p.init_scale, p.growth_factor, p.backoff_factor, p.growth_interval)


def _monitor(config: Config, validated: bool) -> str:
    name = config.training.monitor
    if name.startswith("val_") and not validated:
        if name != "val_loss":
            raise ConfigError(f"training.monitor: {name} needs validation data, and data.val_split is 0")
        return "train_loss"
    measured = ["loss", *(m.name for m in _metrics(config))]
    known = [f"{part}_{m}" for part in ("val", "train") for m in measured if validated or part == "train"]
    if name not in known:
        raise ConfigError(f"training.monitor: there is no {name}; there are {', '.join(known)}")
    return name


def _metrics(config: Config) -> list[Metric]:
    return [build("metric", m) for m in config.metrics.names or DEFAULTS[config.task]["metrics"]]


def _callbacks(config: Config, validated: bool, ranks: int) -> tuple[train.ReduceLROnPlateau | None, list[Callback]]:
    s, e, name, mode = (
        config.scheduler,
        config.early_stopping,
        _monitor(config, validated),
        config.training.monitor_mode,
    )
    found: list[Callback] = []
    if e.enabled:
        found.append(
            train.EarlyStopping(
                name,
                e.patience,
                e.min_delta,
                mode,
                track_overfitting=e.track_overfitting and validated,
                gap_threshold=e.overfitting_gap_threshold,
                overfitting_patience=e.overfitting_patience,
            )
        )
    plateau = None
    if s.type == "ReduceLROnPlateau" and s.factor < 1.0:
        plateau = train.ReduceLROnPlateau(
            s.factor, s.patience, s.min_lr, name, mode, s.threshold, s.threshold_mode, s.cooldown
        )
        found.append(plateau)
    if config.logging.statistics:
        found.append(train.Statistics(config.logging.every_steps))
    if config.energy is not None:
        try:
            booked = build("feature", Named("energy", config.energy))
            booked.check_ranks(ranks)
            found.append(booked)
        except ValueError as error:
            raise ConfigError(f"energy: {error}") from None
    return plateau, found


def _loggers(config: Config) -> list[Callback]:
    log = config.logging
    folder = Path(log.dir or config.training.checkpoint_dir)
    found: list[Callback] = []
    if log.console:
        found.append(loggers.ConsoleLogger(progress=None if importlib.util.find_spec("rich") else False))
    if log.csv:
        found.append(loggers.CSVLogger(folder / "metrics.csv"))
    if log.jsonl:
        found.append(loggers.JSONLLogger(folder / "metrics.jsonl"))
    if log.tensorboard:
        found.append(loggers.TensorBoardLogger(Path(log.tensorboard_dir) / config.name))
    if log.use_wandb:
        found.append(loggers.WandbLogger(log.wandb.project or "hammer", log.wandb.entity, to_mapping(config)))
    return found
