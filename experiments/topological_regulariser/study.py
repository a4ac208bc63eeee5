"""What a topological regulariser guarantees of two rings, and whether one helps where labels are few. See README.md."""

import itertools

import labels
import numpy as np
import rings
from labels import judged, tuned
from rings import kept_apart_by

from hammer.drawing import Line, Panel, picture
from hammer.lab.stats import signed_rank
from hammer.lab.studies import Outcome, Table, Work

TITLE = "Topological regularisers: two rings kept apart, and digits with few labels"
CLAIM = (
    "(a) A network that is trained to tell two rings apart with the term log K − log gap ends with a certificate that it keeps the whole rings apart in nine of ten seeds "
    "at least, nested in the plane and linked in space; without it in at most five; no certified network is wrong anywhere on the rings. "
    "(b) On digits with ten labels a class, pulling the deaths of each class's components to one value lowers the held-out error to 0.9 of that without or less, at equal trials."
)
FALSIFIED_IF = (
    "(a) one of the counts is otherwise, or a certified network is wrong at a fresh point; or (b) the median over fresh seeds of the ratio of errors is above 0.9, "
    "or its 95 % interval reaches 1, or the signed-rank p-value is above 0.05."
)
SEEDS = 10


def run(work: Work) -> Outcome:
    seeds, steps = (2, 60) if work.quick else (SEEDS, rings.STEPS)
    cells = list(itertools.product(rings.CASES, rings.METHODS))
    parts = work.parts(kept_apart_by, {
        f"rings-{case}-{rings.METHODS.index(m)}": {"case": case, "method": m, "steps": steps, "seeds": seeds} for case, m in cells
    })  # fmt: skip
    rows, figures, failures = [], {}, []
    for (case, method), one in zip(cells, parts.values(), strict=True):
        sure = one["ratio"] > 1
        count, false = int(sure.sum()), int((one["wrong"][sure] > 0).sum())
        figures[f"{case}, {method}"] = {"certified": count, "wrong though certified": false, "ratio": one["ratio"]}
        rows.append([
            case, method, f"{count} of {seeds}", float(np.median(one["ratio"])), float(one["ratio"].min()), float(np.median(one["gap"] / one["bound"])),
            float(one["wrong"].max()), false,
        ])  # fmt: skip
        if false or (count < 0.9 * seeds if method == "regularised" else count > 0.5 * seeds):
            failures.append(f"{case}, {method}: {count} of {seeds} certified, {false} of them wrong somewhere")
    trials, lsteps, fresh = (3, 30, 4) if work.quick else (labels.TRIALS, labels.STEPS, labels.SEEDS)
    best = work.parts(tuned, {f"tuned-{m}": {"method": m, "trials": trials, "steps": lsteps} for m in labels.METHODS})
    ends = work.parts(judged, {
        f"judged-{m}": {"method": m, "settings": [float(best[f"tuned-{m}"][k]) for k in labels.SPACE], "steps": lsteps, "seeds": fresh}
        for m in labels.METHODS
    })  # fmt: skip
    plain, with_it = (ends[f"judged-{m}"]["errors"] for m in labels.METHODS)
    ratios, rng = with_it / plain, np.random.default_rng(0)
    low, high = np.quantile(np.median(rng.choice(ratios, (4000, fresh)), axis=1), [0.025, 0.975])
    middle, p = float(np.median(ratios)), signed_rank(with_it - plain)
    helps = middle <= 0.9 and high < 1 and p <= 0.05
    figures["labels"] = {"ratio": [middle, float(low), float(high)], "p": p, "plain": plain, "regularised": with_it}
    chosen = [
        [m, *(f"{float(best[f'tuned-{m}'][k]):.2g}" if m != "plain" or k in ("rate", "decay") else "–" for k in labels.SPACE),
         float(best[f"tuned-{m}"]["errors"].mean(axis=1).min()), float(np.median(ends[f"judged-{m}"]["errors"]))]
        for m in labels.METHODS
    ]  # fmt: skip
    panels = [
        Panel(f"{case}: gap over what certifies it", "place among the seeds, by size", [
            Line(m, np.linspace(0, 1, seeds), np.sort(parts[f"rings-{case}-{k}"]["ratio"]), dots=True) for k, m in enumerate(rings.METHODS)
        ], log_y=True, levels=[(1.0, "certified")]) for case in rings.CASES
    ]  # fmt: skip
    panels.append(Panel("digits: held-out error", "place among the seeds, by size", [
        Line(m, np.linspace(0, 1, fresh), np.sort(e), dots=True) for m, e in (("plain", plain), ("regularised", with_it))
    ]))  # fmt: skip
    told = "(a) holds" if not failures else f"(a) is false ({'; '.join(failures)})"
    counts = "; ".join(
        f"{case}: " + ", ".join(f"{row[1]} {row[2]}" for row in rows if row[0] == case) for case in rings.CASES
    )
    summary = f"{told}: certified are, {counts}. (b) {'holds' if helps else 'is false'}: the regulariser's error is {middle:.2f} [{low:.2f}, {high:.2f}] times that without, p {p:.2g}."
    return Outcome(
        "holds" if helps and not failures else "falsified", summary, figures,
        [
            Table(
                "Two rings", ["rings", "loss", "certified", "gap / K max(η, 2ε), median", "least", "gap / K, median", f"wrong of {2 * rings.FRESH:,} fresh points, worst seed", "certified and wrong"],
                rows,
            ),
            Table(
                f"Digits, {labels.LABELS} labels a class", ["method", "rate", "decay", "weight", "β", "validation error, best trial", "test error, median of fresh seeds"], chosen,
            ),
        ],
        {"rings_and_labels.svg": picture(panels)},
        [
            f"Rings: {rings.POINTS} samples each, {steps} steps of Adam at {rings.RATE:g}, weight {rings.WEIGHT:g}; both were chosen on four seeds that do not count. Digits: {trials} trials of "
            f"each method on the same Halton points, {labels.TUNING} tuning seeds, {fresh} fresh ones with the same labels and starts for both. The test is of the "
            f"{1797 - labels.POOL - labels.VALIDATION} digits that are neither in the pool of labels ({labels.POOL}) nor for validation ({labels.VALIDATION})."
        ],
    )  # fmt: skip
