"""What no key says alone: defaults that follow from other keys, and settings that contradict one another."""

import re
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from .registry import registered
from .schema import Config

Fail = Callable[[str, str], Exception]


def resolve(config: Config, given: Set[str], fail: Fail) -> Config:
    """The config with the defaults that depend on other keys filled in, after refusing contradictions.

    Args:
        config: the values read.
        given: the dotted paths of the keys that were given.
        fail: ``fail(key, problem)`` makes the error.
    """
    config = _defaults(config, given)
    _task(config, fail)
    _data(config, fail)
    _precision(config, fail)
    _optimizer(config, fail)
    _scheduler(config, fail)
    timeline = config.training.timeline
    if timeline is not None and Path(timeline).suffix not in (".html", ".json"):
        raise fail(
            "training.timeline", f"must end in .html (a page and a trace) or .json (a trace); got {timeline!r:.60}"
        )
    if config.checkpointing.segments is not None and config.checkpointing.budget_mb is not None:
        raise fail("checkpointing.budget_mb", "give either segments or budget_mb: both say what is kept")
    return config


def _defaults(config: Config, given: Set[str]) -> Config:
    training: dict[str, Any] = {}
    if config.precision.dtype is not None and "training.use_amp" not in given:
        training["use_amp"] = config.precision.dtype != "fp32"
    if "training.grad_clip" not in given and _clips(config):
        training["grad_clip"] = 0.0
    if "training.monitor_mode" not in given:
        metric = registered("metric").get(re.sub("^(train|val)_", "", config.training.monitor))
        higher = metric is not None and getattr(metric.builder, "higher_is_better", False)
        training["monitor_mode"] = "max" if higher else "min"
    return replace(config, training=replace(config.training, **training))


def _clips(config: Config) -> bool:
    return any(link.name == "clip_by_global_norm" for link in config.optimizer.chain)


def _task(config: Config, fail: Fail) -> None:
    if config.task == "captioning":
        raise fail(
            "task", "captioning is not available yet; there are classification, regression and language_modelling"
        )
    if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", config.device):
        raise fail("device", f"must be cpu, cuda or cuda:N; got {config.device!r:.60}")


def _data(config: Config, fail: Fail) -> None:
    data = config.data
    sources = [name for name in ("dataset", "images_dir", "text_file") if getattr(data, name) is not None]
    if len(sources) > 1:
        raise fail(f"data.{sources[1]}", f"data.{sources[0]} names the data already; give one of them")
    if data.labels_file is not None and data.images_dir is None:
        raise fail("data.labels_file", "needs data.images_dir: the folder with the images that it labels")
    if data.images_dir is not None and data.labels_file is None and data.caption_file is None:
        raise fail("data.images_dir", "needs data.labels_file: the CSV file with the columns image,label")
    if data.balance and not data.shuffle:
        raise fail("data.balance", "draws examples at random, and data.shuffle: false keeps their order; choose one")


def _precision(config: Config, fail: Fail) -> None:
    dtype, amp = config.precision.dtype, config.training.use_amp
    if dtype is not None and amp != (dtype != "fp32"):
        raise fail(
            "training.use_amp",
            f"{str(amp).lower()} contradicts precision.dtype {dtype}; leave use_amp out, and it follows precision.dtype",
        )
    if config.precision.loss_scale is not None and not amp:
        raise fail("precision.loss_scale", "scales the loss of 16-bit training, and training.use_amp is false")


def _optimizer(config: Config, fail: Fail) -> None:
    links, chain = registered("link"), config.optimizer.chain
    takers = [i for i, link in enumerate(chain) if "lr" in links[link.name].supplied] if links else [len(chain) - 1]
    if takers != [len(chain) - 1]:
        ends = ", ".join(name for name, entry in links.items() if "lr" in entry.supplied)
        problem = (
            f"{len(takers)} links take the learning rate"
            if len(takers) > 1
            else "the last link must take the learning rate"
        )
        raise fail("optimizer.chain", f"{problem}; end the chain with one of {ends}, and have no other of them in it")
    if _clips(config) and config.training.grad_clip:
        raise fail("training.grad_clip", "optimizer.chain has clip_by_global_norm already; leave one of the two out")
    training = config.training
    if not (training.exact or training.compile):
        raise fail("training.exact", "false says how steps are compiled; set compile: true with it, or leave it out")
    if training.lr_mode == "finetune" and not config.model.encoder_fine_tune:
        raise fail(
            "training.lr_mode",
            "finetune gives the encoder a rate of its own, and model.encoder_fine_tune: false keeps it as it is; "
            "set model.encoder_fine_tune: true, or lr_mode: continue",
        )


def _scheduler(config: Config, fail: Fail) -> None:
    s, lr = config.scheduler, config.training.lr
    if s.type == "OneCycleLR" and s.warmup_steps:
        raise fail(
            "scheduler.warmup_steps", "OneCycleLR rises by itself, for pct_start of the steps; leave warmup_steps out"
        )
    if s.three_phase and s.pct_start > 0.5:
        raise fail(
            "scheduler.pct_start", f"is at most 0.5 with three_phase, where the fall is as long; got {s.pct_start:g}"
        )
    if s.type != "OneCycleLR" and s.max_lr is not None:
        raise fail("scheduler.max_lr", f"belongs to OneCycleLR; {s.type} starts from training.lr")
    if s.type in ("ReduceLROnPlateau", "CosineAnnealingLR", "LinearLR") and s.min_lr > lr:
        raise fail("scheduler.min_lr", f"{s.min_lr:g} is above training.lr {lr:g}; a smaller one, or 0")
