"""``hammer topology``: the page of a run, of stored diagrams, or of a grid of numbers.

Of a run it reads the checkpoints: the layers' weighted graphs and the path of the model at each of them; and, with the config that
they keep, it builds the model and the data again for a slice of the training loss around the last weights.
"""

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from .errors import UsageError

MOMENTS = 60
"""At most so many checkpoints are shown, evenly chosen, the last one included."""
WEIGHTS = 2_000_000
"""Layers with more weights are left out: their graphs take too long."""
PATH = "path of the model"
MADE_BY = "runs keep one of every epoch with: hammer run CONFIG training.save_every_epoch=true"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="a folder of checkpoints, a checkpoint, a JSON file of topology.save_diagrams, or a 2-D array in an .npy file",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: RUN/topology.html, or beside the file)"
    )
    parser.add_argument(
        "--landscape", type=int, default=25, metavar="N", help="cells along a side of the slice of the loss; 0: none (default: 25)"
    )  # fmt: skip
    parser.add_argument(
        "--plane", choices=("random", "trajectory"), default="random",
        help="the slice's directions: random and filter-normalised, or those in which the checkpoints went, with their path (default: random)",
    )  # fmt: skip
    parser.add_argument(
        "--radius", type=float, help="how far a random slice goes, in norms of the weights (default: 1)"
    )
    parser.add_argument(
        "--examples", type=int, default=256, metavar="N", help="training examples that the loss is of (default: 256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random directions (default: 0)")
    parser.add_argument(
        "--config", type=Path, metavar="CONFIG", help="the run's config, if it names code of your own (module:function)"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write pictures of the last moment there too")
    parser.add_argument(
        "--format", choices=("svg", "png", "pdf"), default="svg", help="of the pictures; png and pdf need matplotlib (default: svg)"
    )  # fmt: skip


def command(arguments: argparse.Namespace) -> int:
    """What ``hammer topology`` does; returns 0."""
    from hammer.topology import save_html

    run, out = arguments.run, arguments.out
    if arguments.landscape < 0 or arguments.landscape == 1:
        raise UsageError(f"--landscape: 0 or at least 2 cells, not {arguments.landscape}")
    if not (arguments.radius is None or arguments.radius > 0) or arguments.examples < 1:
        raise UsageError("--radius must be above 0, and --examples at least 1")
    if arguments.radius is not None and arguments.plane == "trajectory":
        raise UsageError(
            "--radius: is of random slices; in the plane of the trajectory the slice is as large as the path"
        )
    try:
        sets, shape, about = _read(arguments)
        out = out or (run / "topology.html" if run.is_dir() else run.with_suffix(".html"))
        save_html(out, sets, shape, f"Topology of {run.resolve().name}", about)
        if arguments.pictures is not None:
            _pictures(arguments.pictures, sets or {}, shape, arguments.format)
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    print(f"{about}\npage: {out}")
    return 0


def _read(arguments: argparse.Namespace) -> tuple[Any, Any, str]:
    """Diagrams, landscape, and a line about them."""
    import numpy as np

    from hammer.topology import Diagram, cubical, load_diagrams

    run = arguments.run
    if run.is_dir() or run.suffix == ".safetensors":
        return _of_run(arguments)
    if not run.exists():
        raise UsageError(f"{run}: there is no such file or folder")
    if run.suffix == ".json":
        sets, shape = load_diagrams(run)
        moments = sum(len(one) for one in sets.values())
        return sets, shape, f"{moments} moments of {len(sets)} sets of diagrams from {run.name}"
    if run.suffix == ".npy":
        values = np.load(run, allow_pickle=False)
        if values.ndim != 2:
            raise UsageError(f"{run}: needs an array with two axes, not of shape {values.shape}")
        found: tuple[Diagram, ...] = cubical(values, _dimensions())
        return {"sublevel sets": {"": found}}, values, f"{values.shape[0]} × {values.shape[1]} numbers from {run.name}"
    raise UsageError(f"{run}: is no folder of checkpoints, and no .safetensors, .json or .npy file")


def _dimensions() -> tuple[int, ...]:
    if importlib.util.find_spec("gudhi") is not None and importlib.util.find_spec("sklearn") is not None:
        return (0, 1)
    print('only components: loops need gudhi, pip install "hammer-grad[topology]"', file=sys.stderr)
    return (0,)


def _of_run(arguments: argparse.Namespace) -> tuple[Any, Any, str]:
    import numpy as np

    from autograd.train import CheckpointError, CheckpointFolder, load_state

    run = arguments.run
    try:
        paths = [one.path for one in CheckpointFolder(run).saved()] if run.is_dir() else [run]
        if not paths:
            raise UsageError(f"{run}: there is no checkpoint in this folder; {MADE_BY}")
        if len(paths) > MOMENTS:
            print(f"{len(paths)} checkpoints, of which {MOMENTS} are shown", file=sys.stderr)
            paths = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, MOMENTS).round().astype(int))]
        states = {}
        for path in paths:
            state = load_state(path)
            if not isinstance(state.get("model"), dict) or not isinstance(state.get("place"), dict):
                raise UsageError(f"{path}: is no checkpoint of a training run: it holds no model and no place")
            states[f"epoch {state['place']['epoch']}, step {state['place']['step']}"] = state
    except CheckpointError as error:
        raise UsageError(str(error)) from None
    if arguments.plane == "trajectory" and arguments.landscape and len(states) < 3:
        raise UsageError(f"--plane trajectory: takes 3 checkpoints at least, not {len(states)}; {MADE_BY}")
    sets = _path({label: state["model"] for label, state in states.items()}) | _layers(states)
    shape, where = _slice(arguments, [*states.values()]) if arguments.landscape else (None, "")
    if len(states) == 1:
        print(f"one checkpoint only, so that there is no evolution; {MADE_BY}", file=sys.stderr)
    if not sets and shape is None:
        raise UsageError(f"{run}: its model has no matrix of weights to show")
    count = f"{len(states)} checkpoint{'s' * (len(states) > 1)}"
    of = f"; the training loss of {arguments.examples} examples or fewer {where}" if shape is not None else ""
    return sets, shape, f"{count} of {run.name}: {next(iter(states))} to {next(reversed(states))}{of}"


def _path(models: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """The cloud of all numbers of the model (parameters and buffers) so far, at each moment from the third on."""
    import numpy as np

    from hammer.topology import distances, flat, rips

    if len(models) < 3:
        return {}
    d = distances(np.stack([flat([a for a in model.values() if a.dtype.kind == "f"]) for model in models.values()]))
    wanted = _dimensions()
    return {PATH: {label: rips(d[: k + 1, : k + 1], wanted, "precomputed") for k, label in enumerate(models) if k >= 2}}


def _layers(states: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """The components of each matrix of weights as a graph, strongest edge first, at each moment."""
    import numpy as np

    from hammer.topology import layer_components

    found: dict[str, dict[str, Any]] = {}
    for name, first in next(iter(states.values()))["model"].items():
        if first.ndim < 2 or first.dtype.kind != "f":
            continue
        if first.size > WEIGHTS:
            print(f"{name}: {first.size:,} weights are too many for its graph; left out", file=sys.stderr)
            continue
        weights = {label: state["model"][name] for label, state in states.items()}
        kept = {label: layer_components(w) for label, w in weights.items() if np.isfinite(w).all() and w.any()}
        if kept:
            found[f"graph of {name}"] = kept
    return found


def _slice(arguments: argparse.Namespace, states: list[dict]) -> tuple[Any, str]:
    """The training loss around the weights of the last checkpoint, and a word on where; None, with the reason said, if it cannot be had."""
    import numpy as np

    from autograd.train import DataError, Loader
    from autograd.train.config import ConfigError, parse
    from hammer.topology import flat, loss_landscape, random_directions, trajectory_plane

    from .training import names, setup

    state = states[-1]
    config = state.get("about", {}).get("config")
    if not isinstance(config, dict):
        print("no landscape: the checkpoint keeps no config, so its loss is not known", file=sys.stderr)
        return None, ""
    names.register_all()
    try:
        if arguments.config is not None:  # what a checkpoint alone names is not imported: it is data
            names.register_own(arguments.config, [])
        checked = parse({key: value for key, value in config.items() if key != "logging"}, "the checkpoint's config")
        prepared = setup.prepare(checked)
        trainer, dataset = prepared.trainer, prepared.train.dataset
        trainer.model.load_state_dict(state["model"])
        batch = next(iter(Loader(dataset, arguments.examples, shuffle=True, seed=0, augment=False).batches()))
    except (ConfigError, DataError, ImportError, KeyError, ValueError) as error:
        print(f"no landscape: {error}", file=sys.stderr)
        return None, ""
    model = trainer.model
    weights = {name: p.numpy().copy() for name, p in model.named_parameters()}

    def loss(params: dict[str, Any]) -> float:
        model.load_state_dict(params, strict=False)
        return float(trainer.compute(batch)[2])

    if arguments.plane == "trajectory":
        plane = trajectory_plane(np.stack([flat({n: s["model"][n] for n in weights}) for s in states]), weights)
        with model.evaluating():
            found = loss_landscape(loss, weights, plane.directions, plane.box(), arguments.landscape, plane.path)
        where = f"in the plane of the path, in which {plane.explained.sum():.0%} of its variance lies"
    else:
        directions = random_directions(weights, 2, np.random.default_rng(arguments.seed))
        with model.evaluating():
            found = loss_landscape(loss, weights, directions, arguments.radius or 1.0, arguments.landscape)
        where = "around the last"
    if not np.isfinite(found.values).all():
        hint = "" if arguments.plane == "trajectory" else "; choose a smaller --radius"
        raise UsageError(f"the loss is not finite everywhere in the slice{hint}")
    return found, where


def _pictures(folder: Path, sets: dict[str, Any], shape: Any, kind: str) -> None:
    from hammer.drawing import save
    from hammer.topology import basins, pictures
    from hammer.topology.slices import as_landscape

    folder.mkdir(parents=True, exist_ok=True)
    for name, moments in sets.items():
        plain = re.sub(r"\W+", "_", name).strip("_") or "diagrams"
        last = moments[next(reversed(moments))]
        for draw in (pictures.barcode, pictures.persistence_diagram, pictures.betti_curves):
            save(folder / f"{plain}_{draw.__name__}.{kind}", draw(last))
    if shape is not None:
        shape = as_landscape(shape)
        save(folder / f"landscape.{kind}", pictures.landscape(shape))
        save(folder / f"merge_tree.{kind}", pictures.merge_tree(basins(shape.values)))
