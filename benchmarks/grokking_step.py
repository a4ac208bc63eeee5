"""Milliseconds per step of the grokking study's transformer: Hammer compiled and eager, beside PyTorch eager.

What is measured: one training step (forward, mean cross-entropy of the last place, backward, Grokfast-EMA, Adam with L2) of the two-layer
decoder of ``experiments/grokking`` on a batch of 512 of its examples, float32, 422,784 parameters; all
compute the last block for the last place alone. Hammer compiled is ``hammer.training_step(..., exact=False)``, as the study trains; PyTorch
uses its own layers and ``torch.optim.Adam``, with the filter as ``lerp_`` and ``add_`` on each gradient.

How: each in a process of its own with the same weights and data; the losses of the first three steps have to agree to 10⁻³. Then short
blocks are interleaved; a ratio is the median of the ratios within a round.

The last line is JSON: milliseconds, and ``ours_over_torch``, ``ours_eager_over_torch``.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import common
import workers

BATCH, LR, BETAS, DECAY, ALPHA, LAMB = 512, 1e-3, (0.9, 0.98), 0.005, 0.98, 2.0
sys.path.insert(0, str(workers.ROOT / "experiments" / "grokking"))


def problem() -> tuple[Any, Any, Any, dict[str, Any]]:
    """Hammer's model, a batch, and the weights by name."""
    import numpy as np
    from grokking_model import Decoder, examples

    model = Decoder(np.random.default_rng(0))
    ids, results = examples()
    places = np.random.default_rng(1).permutation(len(ids))[:BATCH]
    return model, ids[places], results[places], {name: p.numpy().copy() for name, p in model.named_parameters()}


def build(library: str, case: str) -> Callable[[], float]:
    """One step; it returns the loss."""
    sys.path.insert(0, str(workers.ROOT))
    model, ids, results, weights = problem()
    if library == "torch":
        return _torch(ids, results, weights)
    from grokking_model import loss_of

    import hammer
    from autograd.gradients import chain
    from autograd.optim import Optimizer, adam
    from hammer.vortex import presets

    bank = presets.grokfast_ema(ALPHA, LAMB)
    optimizer = Optimizer(model.parameters(), chain(bank(), adam(LR, BETAS, weight_decay=DECAY)))
    loss = loss_of(model)
    if library == "ours":
        step = hammer.training_step(loss, optimizer, exact=False)
        return lambda: float(step(ids, results).numpy())

    def eager() -> float:
        optimizer.zero_grad()
        value = loss(ids, results)
        value.backward()
        optimizer.step()
        return float(value.numpy())

    return eager


def _torch(ids: Any, results: Any, weights: dict[str, Any]) -> Callable[[], float]:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(128), nn.LayerNorm(128)
            self.attend = nn.MultiheadAttention(128, 4, batch_first=True)
            self.mlp = nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))
            self.register_buffer("mask", torch.triu(torch.full((4, 4), -torch.inf), 1), persistent=False)

        def forward(self, x: Any, last: bool = False) -> Any:
            x = self.ln_1(x)
            asked, mask = (x[:, -1:], None) if last else (x, self.mask)
            asked = asked + self.attend(asked, x, x, attn_mask=mask, need_weights=False, is_causal=not last)[0]
            return asked + self.mlp(self.ln_2(asked))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(99, 128), nn.Embedding(5, 128)
            self.blocks = nn.Sequential(Block(), Block())
            self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 99, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h, last=block is self.blocks[-1])
            return self.head(self.norm(h)[:, 0])

    model = Decoder()
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    optimizer = torch.optim.Adam(model.parameters(), LR, BETAS, weight_decay=DECAY)
    x, y = torch.from_numpy(ids), torch.from_numpy(results)
    means: list[Any] = []

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            grads = [p.grad for p in model.parameters()]
            if not means:
                means.extend(g.clone() for g in grads)
            for g, m in zip(grads, means, strict=True):
                m.lerp_(g, 1 - ALPHA)
                g.add_(m, alpha=LAMB)
        optimizer.step()
        return float(loss.item())

    return step


def main(argv: list[str] | None = None) -> None:
    options = common.parser(__doc__, libraries="ours,ours_eager,torch").parse_args(argv)
    if options.worker:
        workers.serve(options.worker, build)
        return
    rounds, case = (7 if options.quick else 31), "step"
    seconds: dict[str, list[float]] = {}
    with workers.start(options, __file__) as (running, left_out):
        lines = common.describe(running, left_out, options.threads)
        losses = {
            library: worker.ask("prepare", case=case, seconds=0.2 if options.quick else 0.4, checks=3)["values"]
            for library, worker in running.items()
        }
        reference = next(iter(losses.values()))
        for library, found in losses.items():
            if any(abs(a - b) > 1e-3 * abs(b) for a, b in zip(found, reference, strict=True)):
                raise SystemExit(f"{library} computes other losses: {found}, not {reference}")
        for _ in range(rounds):
            for library, worker in running.items():
                seconds.setdefault(library, []).append(worker.ask("time", case=case))
                workers.settled(running.values(), 0.3)
    figures: dict[str, Any] = {library: statistics.median(s) * 1e3 for library, s in seconds.items()}
    rows = []
    for library, found in seconds.items():
        beside = None
        if "torch" in seconds:
            beside = statistics.median(a / b for a, b in zip(found, seconds["torch"], strict=True))
            figures[f"{library}_over_torch"] = beside
        rows.append([workers.TITLES[library] if library != "ours" else "Hammer (compiled)", figures[library], beside])
    lines += ["", *common.table(["library", "ms per step", "over PyTorch eager"], rows)]
    lines += ["", f"Losses of the first steps: {', '.join(f'{v:.5f}' for v in reference)}, equal in all to 10⁻³."]
    print("\n".join(lines))
    common.finish(options, "grokking_step", lines, figures)


if __name__ == "__main__":
    main()
