"""The network and the data of the grokking studies: multiplication modulo 97, as in Power et al. (2022) and Grokfast (Lee et al. 2024)."""

from typing import Any

import numpy as np

from autograd import nn, ops

MODULUS, WIDTH, HEADS, LAYERS = 97, 128, 4, 2
PARAMETERS = 422_784


class Block(nn.Module):
    """A causal block whose residual connection starts after the first normalisation: x = ln₁(x); x + attend(x); x + mlp(ln₂(x))."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, rng=rng)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH, rng=rng), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH, rng=rng))

    def forward(self, x: Any, last: bool = False) -> Any:
        """``last``: only the last place's output (N, 1, width), to which every place is visible."""
        x = self.ln_1(x)
        asked = x[:, -1:] if last else x
        asked = asked + self.attend(asked, x, x, need_weights=False, is_causal=not last)[0]
        return asked + self.mlp(self.ln_2(asked))


class Decoder(nn.Module):
    """Token ids (N, 4), which say "x op y =", to logits (N, 99) of what follows the last of them."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.tokens = nn.Embedding(MODULUS + 2, WIDTH, rng=rng)
        self.places = nn.Embedding(5, WIDTH, rng=rng)
        self.blocks = nn.Sequential(*(Block(rng) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, MODULUS + 2, bias=False, rng=rng)

    def forward(self, ids: Any) -> Any:
        x = self.tokens(ids) + self.places(np.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x, last=block is self.blocks[-1])  # nobody asks for the other places' answers
        return self.head(self.norm(x)[:, 0])


def examples() -> tuple[np.ndarray, np.ndarray]:
    """All 9,312 products with y ≠ 0: ids int64 (9312, 4), results int64 (9312,)."""
    x, y = np.meshgrid(np.arange(MODULUS), np.arange(1, MODULUS), indexing="ij")
    x, y = x.ravel(), y.ravel()
    equals, op = np.full(x.shape, MODULUS), np.full(x.shape, MODULUS + 1)
    return np.stack([x, op, y, equals], 1), x * y % MODULUS


def loss_of(model: nn.Module) -> Any:
    return lambda ids, result: ops.mean(ops.cross_entropy(model(ids), result))
