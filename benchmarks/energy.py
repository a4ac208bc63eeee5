"""What booking joules costs, whether the parts add up, and what faults do to a meter; beside PyTorch's profiler.

* **Overhead**: training steps inside ``HammerContext(energy=Meter(Modelled("45nm")))``, phases and layers told apart, over the same steps without
  it: with the default budget (operations are heard in as many steps as 1 % of the time allow), with every step heard, and after the
  context has ended ("absent"). PyTorch beside it: the same step in its profiler, which hears every operation, over its own plain step. Short
  blocks are interleaved, each between two plain ones. Of a block the median step counts, so that other programs on the machine count for
  little, and the figure is the median over rounds of the ratio to the plain blocks around. With the budget, the steps that are heard are then added
  in the proportion in which a longer run has them; the first step of a run, heard in any case, is left out.
* **Parts and whole**: how far the joules of all rows are from the meter's, for the cost model and for a counter (simulated RAPL tree).
* **Work**: FLOPs that the ledger books for a step, over the exact count of the recorded backward pass, rule by rule.
* **Faults**: twelve faults of simulated hardware. A fault *crashes* if reading raises, and *invents* if joules come out that were not spent.

Joules here are modelled or simulated: no machine of ours has had a counter. The last line is JSON.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import training_step
import workers

WORKLOADS = ("mlp_tiny", "mlp_small", "cnn")
HOWS = {"ours": ("plain", "budget", "every step", "absent"), "torch": ("plain", "profiler")}
QUICK_SECONDS, BLOCK, LONG = 20.0, 0.06, 0.5
"""Of the rounds of a quick run, which leaves PyTorch out; of a block; and of the three runs that tell how many steps are heard."""
FEWEST = 6
"""Steps of a block, of which a booked one leaves out the first: medians of two and of three would not be the same thing."""


class Ours:
    """A workload's steps, with and without a context."""

    def __init__(self, workload: str):
        from autograd import DiffTensor, nn, optim

        weights, x, labels = training_step.problem(workload)
        if workload == "cnn":
            layers = [
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9216, 128),
                nn.ReLU(), nn.Linear(128, 10),
            ]  # fmt: skip
        else:
            layers = [layer for w in weights[::2] for layer in (nn.Linear(*w.shape[::-1]), nn.ReLU())][:-1]
        self.model = nn.Sequential(*layers)
        self.model.load_state_dict(dict(zip(self.model.state_dict(), weights, strict=True)))
        self.loss, self.optimizer = nn.CrossEntropyLoss(), optim.SGD(self.model.parameters(), lr=1e-4)
        self.x, self.y = DiffTensor(x), DiffTensor(labels)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model(self.x), self.y).backward()
        self.optimizer.step()

    def plain(self, steps: int) -> list[float]:
        """Seconds of each step."""
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - begin)
        return times

    def booked(
        self, steps: int, source: Any = None, each: Callable[[], None] | None = None, **options: Any
    ) -> tuple[list[tuple[bool, float]], Any]:
        """Of each step whether it was heard, and its seconds; and the report."""
        from hammer.context import HammerContext
        from hammer.energy import Meter, Modelled

        meter = Meter(source or Modelled("45nm", 5.0))
        context = HammerContext(energy=meter, model=self.model, optimizer=self.optimizer, **options)
        times = []
        with context:
            for _ in range(steps):
                heard, begin = context.ledger.watching, time.perf_counter()
                self.optimizer.zero_grad()
                self.loss(self.model(self.x), self.y).backward()
                with context.phase("optimizer"):
                    self.optimizer.step()
                if each is not None:
                    each()
                context.step()
                times.append((heard, time.perf_counter() - begin))
        return times, context.report()

    def block(self, how: str, steps: int) -> dict[str, float]:
        if how in ("plain", "absent"):
            return {"step": statistics.median(self.plain(steps))}
        times, _ = self.booked(steps, **({"budget": None} if how == "every step" else {}))
        heard, other = [t for h, t in times[1:] if h], [t for h, t in times[1:] if not h]
        share = len(heard) / (steps - 1)
        return {
            "step": statistics.median(other or heard),
            "share": share,
            "heard": statistics.median(heard or [times[0][1]]),
        }


def torch_block(step: Callable[[], Any], how: str, steps: int) -> dict[str, float]:
    import torch

    def run() -> float:
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    if how == "plain":
        return {"step": run()}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True):
        return {"step": run()}


_BUILT: dict[str, Any] = {}


def block(library: str, workload: str, how: str, steps: int) -> dict[str, float]:
    """Seconds of the median "step" of so many. With the budget of those that are not heard; "heard" is of those that are, and
    "share" their proportion, without the first."""
    if workload not in _BUILT:
        _BUILT[workload] = Ours(workload) if library == "ours" else training_step.build(library, workload)
        _run(library, workload, "plain", 3)
    return _run(library, workload, how, steps)


def _run(library: str, workload: str, how: str, steps: int) -> dict[str, float]:
    there = _BUILT[workload]
    return there.block(how, steps) if library == "ours" else torch_block(there, how, steps)


# ---- what needs no peer ----


def adds_up(workload: str) -> dict[str, float]:
    """Relative differences of the parts from the whole, and of booked FLOPs from the exact count."""
    from hammer.energy import rapl
    from hammer.energy.simulate import SimulatedRapl

    there = Ours(workload)
    found = {}
    _, report = there.booked(20)
    found["model"] = abs(sum(row.joules for row in report.rows) / report.joules - 1)
    with tempfile.TemporaryDirectory() as folder:
        machine = SimulatedRapl(Path(folder), start=262_143_000_000)
        _, report = there.booked(20, rapl(machine.root), lambda: machine.spend(0.1))  # it wraps around
        assert abs(report.joules - 2.0) < 1e-3, report.joules
        found["counter"] = abs(sum(row.joules for row in report.rows) / report.joules - 1)
    _, report = there.booked(1, budget=None)
    booked = sum(row.flops for row in report.rows if row.phase in ("forward", "backward"))
    found["flops"] = booked / _exact(there)
    return found


def _exact(there: Ours) -> float:
    """FLOPs of a loss and its gradient, all operations of the rules counted."""
    from autograd.context import AutogradContext
    from autograd.tape import BackwardPass

    total = 0.0

    def heard(row: Any, inputs: tuple, params: dict, outputs: tuple) -> None:
        nonlocal total
        if params.get("backward") is not True:
            total += row.cost(outputs if len(outputs) > 1 else outputs[0], *inputs, **params)[0]

    with AutogradContext(observer=heard):
        BackwardPass([there.loss(there.model(there.x), there.y)], record=True).run()
    return total


def faults() -> dict[str, str]:
    """Twelve faults -> "right" (joules that were spent), "not measured", "invents" or "crashes"."""
    from hammer.energy import Meter, Unavailable, nvml, rapl
    from hammer.energy.simulate import SimulatedNvml, SimulatedRapl

    found: dict[str, str] = {}
    now = [0.0]

    def case(name: str, what: Callable[[Any, Any], None], spent: float, start: int = 10**9, late: bool = True) -> None:
        with tempfile.TemporaryDirectory() as folder:
            machine = SimulatedRapl(Path(folder), start=start)
            gpus = SimulatedNvml(1)
            gpu = name.startswith("GPU")
            try:
                if not late:
                    what(machine, gpus)
                source = nvml(gpus, lambda: now[0]) if gpu else rapl(machine.root, machine.read, lambda: now[0])
                meter = Meter(source, clock=lambda: now[0])
                if late:
                    what(machine, gpus)
                now[0] += 1.0
                joules = meter.read().joules
            except Unavailable:
                joules = None
            except Exception as error:  # noqa: BLE001  (that is what is looked for)
                found[name] = f"crashes: {error!r}"
                return
        found[name] = (
            "not measured" if joules is None else "right" if abs(joules - spent) < 1e-3 else f"invents: {joules}"
        )

    def later(seconds: float) -> Callable[[Any, Any], None]:
        def what(machine: Any, _gpus: Any) -> None:
            machine.spend(5.0)
            now[0] += seconds

        return what

    case("counter wraps around", lambda m, _: m.spend(40.0), 40.0, start=262_143_000_000)
    case("a gap of an hour", later(3600.0), 5.0)
    case("the clock goes backwards", later(-50.0), 5.0)
    case("permission denied at the start", lambda m, _: (m.deny(), m.deny("dram-0")), 0.0, late=False)
    case("permission withdrawn", lambda m, _: m.deny(), 0.0)
    case("counter removed", lambda m, _: m.remove(), 0.0)
    case("counter reset", lambda m, _: m.set("0"), 0.0)
    case("counter jumps", lambda m, _: m.set("200000000000"), 0.0)
    case("no number in the counter", lambda m, _: m.set("?"), 0.0)
    case("GPU vanishes", lambda _, g: g.errors.update({0: 15}), 0.0)
    case("GPU driver not loaded", lambda _, g: g.errors.update({None: 9}), 0.0, late=False)
    case("GPU counter reset", lambda _, g: g.millijoules.__setitem__(0, 0), 0.0)
    return found


def measure(running: dict[str, workers.Worker], quick: bool) -> dict[tuple[str, str], dict[str, float]]:
    """(library, how) -> workload -> by which share a step takes longer than a plain one."""
    begin, turn = time.monotonic(), 0
    ratios: dict[tuple[str, str, str], list[float]] = {}
    steps: dict[tuple[str, str], int] = {}
    shares: dict[str, float] = {}

    def run(library: str, workload: str, how: str, count: int) -> dict[str, float]:
        return running[library].ask("block", library=library, workload=workload, how=how, steps=count)  # type: ignore[no-any-return]

    for library in running:
        for workload in WORKLOADS:
            one = min(run(library, workload, "plain", 3)["step"] for _ in range(3))
            steps[library, workload] = max(FEWEST, round(BLOCK / one))
            if library == "ours":
                longer = max(5, round(LONG / one))
                shares[workload] = statistics.median(
                    run(library, workload, "budget", longer)["share"] for _ in range(3)
                )
    while turn < (2 if quick else 60) or (quick and time.monotonic() - begin < QUICK_SECONDS):
        turn += 1
        for (library, workload), count in steps.items():
            if workload == "cnn" and turn > (2 if quick else 12):
                continue  # a block of it is ten times as long
            hows = HOWS[library][1:] if turn % 2 else HOWS[library][:0:-1]
            plain = run(library, workload, "plain", count)["step"]
            for how in hows:
                there, before = run(library, workload, how, count), plain
                plain = run(library, workload, "plain", count)["step"]
                seconds = there["step"]
                if how == "budget":
                    seconds += shares[workload] * max(0.0, there["heard"] - there["step"])
                ratios.setdefault((library, workload, how), []).append(2 * seconds / (before + plain))
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (library, workload, how), values in ratios.items():
        found.setdefault((library, how), {})[workload] = round(statistics.median(values) - 1, 4)
    return found


def main(argv: list[str] | None = None) -> None:
    options = common.parser(__doc__, libraries="ours,torch", threads=1).parse_args(argv)
    if options.worker:
        commands = {"block": block, "faults": faults, "adds_up": lambda: {w: adds_up(w) for w in WORKLOADS[:2]}}
        workers.serve(options.worker, build=training_step.build, **commands)
        return
    if options.quick:
        options.libraries = "ours"
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        print("\n".join(lines), flush=True)
        overhead = measure(running, options.quick)
        sums, told = running["ours"].ask("adds_up"), running["ours"].ask("faults")
    head = ["steps with, over steps without", *WORKLOADS]
    titles = {("ours", "budget"): "HammerContext, default budget", ("ours", "every step"): "HammerContext, every step heard", ("ours", "absent"): "after the context (1: nothing is left)", ("torch", "profiler"): "PyTorch's profiler"}  # fmt: skip
    rows: list[list[Any]] = [
        [titles[key], *(1 + there[w] for w in WORKLOADS)] for key, there in overhead.items() if key in titles
    ]
    body = ["", *common.table(head, rows), ""]
    body += common.table(
        ["parts beside the whole", *sums],
        [[what, *(f"{sums[w][what]:.2g}" for w in sums)] for what in ("model", "counter", "flops")],
    )
    body += [
        "",
        "model, counter: relative difference of the rows' joules from the meter's; flops: booked over exact.",
        "",
    ]
    body += common.table(["fault", "outcome"], [[name, outcome] for name, outcome in told.items()])
    print("\n".join(body))
    figures = {
        "overhead": overhead["ours", "budget"],
        "overhead_every_step": overhead["ours", "every step"],
        "absent": overhead["ours", "absent"],
        "profiler_torch": overhead.get(("torch", "profiler")),
        "parts_off": max(max(s["model"], s["counter"]) for s in sums.values()),
        "flops_over_exact": {w: round(s["flops"], 4) for w, s in sums.items()},
        "faults": len(told),
        "faults_wrong": sum(o.startswith(("crashes", "invents")) for o in told.values()),
    }
    common.finish(options, "energy", lines + body, figures)


if __name__ == "__main__":
    sys.exit(main())
