"""``hammer run`` and ``hammer schema``."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from autograd.train import CheckpointError, CheckpointFolder, DataError, Interrupted, NonFiniteError, WorkerError
from autograd.train.config import Config, ConfigError, json_schema, load_config, to_mapping, to_yaml, unused_keys
from autograd.train.folder import load_checkpoint
from hammer import agents

from ..errors import UsageError
from . import names, setup


def run(arguments: argparse.Namespace) -> int:
    """Train as a config says, on every rank of this job, or run the study of a folder; returns the exit code."""
    if arguments.config is not None and Path(arguments.config).is_dir():
        from ..studies import run_study

        return run_study(arguments)
    if arguments.quick or arguments.out is not None:
        raise UsageError(f"{arguments.config}: --quick and --out are for studies (folders with a study.py)")
    names.register_all()
    try:
        world = agents.world(survive=agents.survive.surviving())
    except agents.AgentsError as error:
        raise UsageError(str(error)) from None
    with world as comm:
        return _run(arguments, comm)


def _run(arguments: argparse.Namespace, comm: agents.Communicator) -> int:
    failed, prepared, said = None, None, []
    try:
        config = _config(arguments)
        if arguments.print_config:
            print(to_yaml(config) if comm.rank == 0 else "", end="")
            return 0
        said = [f"{key} is not used by the task {config.task}" for key in unused_keys(config)]
        prepared = setup.prepare(config, comm)
        said += prepared.said + _start(prepared, config)
    except (ConfigError, DataError, CheckpointError, ImportError, UsageError) as error:
        failed = error
    first = int(comm.all_reduce(np.array(comm.size if failed is None else comm.rank), "min").wait())
    if first < comm.size:  # the first rank that cannot start says why; none of them does
        if comm.size == 1:
            raise UsageError(str(failed)) from None
        if comm.rank == first:
            print(f"hammer run: {failed}", file=sys.stderr)
        return 2
    assert prepared is not None
    if config.logging.console and comm.rank == 0:
        for line in said:
            print(line, file=sys.stderr)
    try:
        history = prepared.fit()
    except Interrupted as stop:
        folder = config.training.checkpoint_dir
        again = ["hammer", "run", arguments.config, *_without(arguments.settings, "training.resume_from")]
        line = shlex.join([*again, f"training.resume_from={folder}"])
        if comm.rank == 0:
            print(f"{str(stop).partition(':')[0]}; to go on:\n  {line}", file=sys.stderr)
        _timeline(prepared)
        return 130
    except (NonFiniteError, WorkerError, DataError, CheckpointError) as error:
        if comm.size > 1 and not isinstance(error, NonFiniteError):
            raise  # of this rank alone, perhaps: it ends the job
        if comm.rank == 0:
            print(f"hammer run: {error}", file=sys.stderr)
        return 1
    if comm.rank == 0:
        _summary(prepared, history.final)
    _timeline(prepared)
    return 0


def schema(_arguments: argparse.Namespace | None = None) -> int:
    """Print the JSON Schema of configs."""
    names.register_all()
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def _config(arguments: argparse.Namespace) -> Config:
    if arguments.config is None:
        if not arguments.print_config:
            raise UsageError("give a config file, as in: hammer run experiments/mnist.yaml")
        return Config()
    path = Path(arguments.config)
    names.register_own(path, arguments.settings)
    return load_config(path, arguments.settings)


def _without(settings: list[str], key: str) -> list[str]:
    return [one for one in settings if one.partition("=")[0].strip() != key]


def _start(prepared: setup.Run, config: Config) -> list[str]:
    """Load what the run goes on from; a fresh run does not mix with the checkpoints of another. What is written in the end must have
    its folder now."""
    t, said, comm = config.training, [], prepared.comm
    writes = comm.rank == 0 or comm.survives  # the first rank, or after its loss any
    if t.timeline is not None and writes and not Path(t.timeline).parent.is_dir():
        raise UsageError(
            f"training.timeline: {t.timeline} could not be written in the end: there is no folder {Path(t.timeline).parent}; "
            "make it, or name another file"
        )
    if t.resume_from is not None:
        path, state = load_checkpoint(t.resume_from, t.monitor_mode)
        try:
            prepared.trainer.load_state_dict(state)
        except (ValueError, KeyError) as error:
            raise UsageError(f"{path}: is of another model or config: {error}") from None
        said.append(f"goes on from {path}: epoch {prepared.trainer.epoch}, step {prepared.trainer.step}")
        changed = _changed(state.get("about", {}).get("config", {}), to_mapping(config))
        if changed:
            said.append(f"changed since then: {', '.join(changed)}")
    elif any(CheckpointFolder(t.checkpoint_dir).saved()):
        raise UsageError(
            f"training.checkpoint_dir: {t.checkpoint_dir} has checkpoints of an earlier run; go on with it by "
            f"training.resume_from={t.checkpoint_dir}, or give another folder, or delete this one"
        )
    return said


def _changed(old: Any, new: Any, at: str = "") -> list[str]:
    """The keys of two configs whose values differ, but for the one that every resumed run changes."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [at] if old != new and at != "training.resume_from" else []
    keys = [*old, *(k for k in new if k not in old)]
    return [c for k in keys for c in _changed(old.get(k), new.get(k), f"{at}.{k}" if at else k)]


def _timeline(prepared: setup.Run) -> None:
    """Where all ranks have ended alike."""
    files = prepared.save_timeline()
    if files:
        print(f"timeline: {', '.join(map(str, files))}")


def _summary(prepared: setup.Run, final: dict[str, Any]) -> None:
    trainer = prepared.trainer
    values = ", ".join(f"{k} {v:.4g}" for k, v in final.items() if k.startswith(("train_", "val_")))
    best = trainer.best
    told = f"; best {best['name']} {best['value']:.4g} in epoch {best['epoch']}" if best else ""
    print(
        f"{trainer.epoch} epochs, {trainer.step} steps: {values}{told}. Checkpoints: {prepared.config.training.checkpoint_dir}"
    )
