"""Recurrent layers and attention: values against the formulas in plain NumPy, values and gradients against PyTorch."""

import math

import numpy as np
import pytest

from autograd import DiffTensor, nn, ops
from autograd.testing import check_grads

RNG = np.random.default_rng


def close(actual, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cell(kind, x, state, p, layer):
    """One step of one layer, as the papers write it."""
    w, u, b, c = (p[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if kind == "RNN":
        return np.tanh(w @ x + b + u @ state + c)
    if kind == "GRU":
        (wr, wz, wn), (ur, uz, un) = np.split(w, 3), np.split(u, 3)
        (br, bz, bn), (cr, cz, cn) = np.split(b, 3), np.split(c, 3)
        r, z = sigmoid(wr @ x + br + ur @ state + cr), sigmoid(wz @ x + bz + uz @ state + cz)
        return (1 - z) * np.tanh(wn @ x + bn + r * (un @ state + cn)) + z * state
    h, memory = state
    i, f, g, o = np.split(w @ x + b + u @ h + c, 4)
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_are_their_formulas(kind):
    layer = getattr(nn, kind)(3, 4, num_layers=2, rng=0, dtype=np.float64)
    p = layer.state_dict()
    x = RNG(1).normal(size=(5, 2, 3))
    h0, c0 = RNG(2).normal(size=(2, 2, 2, 4))
    output, last = layer(x, (h0, c0) if kind == "LSTM" else h0)
    for n in range(2):
        states = [(h0[k, n], c0[k, n]) if kind == "LSTM" else h0[k, n] for k in range(2)]
        for t in range(5):
            value = x[t, n]
            for k in range(2):
                states[k] = cell(kind, value, states[k], p, k)
                value = states[k][0] if kind == "LSTM" else states[k]
            close(output.numpy()[t, n], value)
        for k in range(2):
            for found, wanted in zip(*((last, states[k]) if kind == "LSTM" else ([last], [states[k]])), strict=True):
                close(found.numpy()[k, n], wanted)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_start_at_zero_and_take_either_order(kind):
    make = getattr(nn, kind)
    first, last = make(3, 4, rng=0, dtype=np.float64), make(3, 4, rng=0, batch_first=True, dtype=np.float64)
    x = RNG(3).normal(size=(6, 2, 3))
    zeros = np.zeros((1, 2, 4))
    output, _ = first(x)
    close(output.numpy(), first(x, (zeros, zeros) if kind == "LSTM" else zeros)[0].numpy())
    close(np.swapaxes(output.numpy(), 0, 1), last(np.swapaxes(x, 0, 1))[0].numpy())
    # A sequence in two parts, the state handed over, is the sequence.
    again, middle = first(x[:3])
    close(np.concatenate([again.numpy(), first(x[3:], middle)[0].numpy()]), output.numpy())
    assert make(3, 4, rng=0)(x.astype(np.float32))[0].dtype == np.float32
    assert [*make(3, 4, bias=False).state_dict()] == ["weight_ih_l0", "weight_hh_l0"]
    assert np.abs(first.weight_hh_l0.numpy()).max() <= 0.5


def test_recurrent_layers_have_their_derivatives():
    layer = nn.GRU(2, 3, rng=0, dtype=np.float64)
    check_grads(lambda x: ops.sum(layer(x)[0] ** 2), RNG(4).normal(size=(4, 1, 2)))


def test_bad_sequences_are_refused():
    for bad in (np.ones((5, 3)), np.ones((5, 2, 4)), np.ones((0, 2, 3))):
        with pytest.raises(ValueError, match="GRU: input"):
            nn.GRU(3, 4)(bad)
    with pytest.raises(ValueError, match=r"h_0 has shape \(2, 4\).*\(1, 2, 4\)"):
        nn.GRU(3, 4)(np.ones((5, 2, 3), np.float32), np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        nn.LSTM(3, 0)


def test_attention_is_its_formula():
    q, k, v = RNG(5).normal(size=(2, 3, 4, 6)), RNG(6).normal(size=(2, 3, 5, 6)), RNG(7).normal(size=(2, 3, 5, 2))
    plain = q @ np.swapaxes(k, -1, -2) / math.sqrt(6)
    close(nn.scaled_dot_product_attention(q, k, v), softmax(plain) @ v)
    close(nn.scaled_dot_product_attention(q, k, v, scale=1.0), softmax(plain * math.sqrt(6)) @ v)
    added = RNG(8).normal(size=(4, 5))
    close(nn.scaled_dot_product_attention(q, k, v, added), softmax(plain + added) @ v)
    allowed = added > -1
    close(nn.scaled_dot_product_attention(q, k, v, allowed), softmax(np.where(allowed, plain, -np.inf)) @ v)
    with pytest.raises(ValueError, match="not both"):
        nn.scaled_dot_product_attention(q, k, v, allowed, is_causal=True)
    with pytest.raises(ValueError, match="rng"):
        nn.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    assert np.any(nn.scaled_dot_product_attention(q, k, v, dropout_p=0.5, rng=RNG(9)) != softmax(plain) @ v)


def test_a_causal_query_does_not_see_what_comes_later():
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True, rng=0, dtype=np.float64)
    x = RNG(10).normal(size=(2, 6, 8))
    changed = x.copy()
    changed[:, 4:] += 1.0
    a, b = layer(x, is_causal=True).numpy(), layer(changed, is_causal=True).numpy()
    close(a[:, :4], b[:, :4])
    assert np.all(np.abs(a[:, 4:] - b[:, 4:]).max(axis=-1) > 1e-3)


def test_heads_are_attention_of_parts():
    layer = nn.MultiheadAttention(6, 3, batch_first=True, rng=0, dtype=np.float64)
    x, y = RNG(11).normal(size=(2, 4, 6)), RNG(12).normal(size=(2, 5, 6))
    layer.in_proj_bias.data = RNG(13).normal(size=18)
    output, weights = layer(x, y, y)
    parts = zip(np.split(layer.in_proj_weight.numpy(), 3), np.split(layer.in_proj_bias.numpy(), 3), strict=True)
    q, k, v = (a @ w.T + b for a, (w, b) in zip((x, y, y), parts, strict=True))
    heads, means = [], 0.0
    for h in range(3):
        cut = slice(2 * h, 2 * h + 2)
        w = softmax(q[..., cut] @ np.swapaxes(k[..., cut], 1, 2) / math.sqrt(2))
        heads.append(w @ v[..., cut])
        means = means + w / 3
    close(output.numpy(), np.concatenate(heads, -1) @ layer.out_proj.weight.numpy().T + layer.out_proj.bias.numpy())
    close(weights.numpy(), means)
    same = nn.MultiheadAttention(6, 3, rng=0, dtype=np.float64)
    same.load_state_dict(layer.state_dict())
    swapped = same(np.swapaxes(x, 0, 1), np.swapaxes(y, 0, 1), np.swapaxes(y, 0, 1), need_weights=False)
    close(np.swapaxes(swapped[0].numpy(), 0, 1), output.numpy())
    assert swapped[1] is None
    tensor = DiffTensor(x)
    close(layer(tensor, tensor, tensor)[0].numpy(), layer(x, x.copy(), x.copy())[0].numpy())  # one product or three


def test_bad_attention_is_refused():
    with pytest.raises(ValueError, match="6 does not divide into 4 heads"):
        nn.MultiheadAttention(6, 4)
    with pytest.raises(ValueError, match=r"key \(2, 5\)"):
        nn.MultiheadAttention(6, 3)(np.ones((2, 5, 6)), np.ones((2, 5)), np.ones((2, 5, 6)))
    with pytest.raises(ValueError, match='"relu" or "gelu"'):
        nn.TransformerEncoderLayer(6, 3, activation="tanh")
    with pytest.raises(ValueError, match="up to 3"):
        nn.PositionalEmbedding(3, 2)(np.ones((1, 4, 2)))
    with pytest.raises(ValueError, match="even"):
        nn.sinusoids(4, 3)


def test_positions():
    table = nn.sinusoids(7, 4, np.float64)
    close(table[3], [math.sin(3), math.cos(3), math.sin(3 / 100), math.cos(3 / 100)])
    layer = nn.PositionalEmbedding(5, 2, rng=0, dtype=np.float64)
    x = RNG(14).normal(size=(3, 4, 2))
    close(layer(x).numpy(), x + layer.weight.numpy()[:4])
    ops.sum(layer(x)).backward()
    close(layer.weight.grad, [[3.0, 3.0]] * 4 + [[0.0, 0.0]])


def test_sequence_layers_work_on_another_library():
    strict = pytest.importorskip("array_api_strict")
    x = RNG(15).normal(size=(3, 2, 4))
    for make in (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, 0.0, rng=0, dtype=np.float64)),
        lambda: nn.LSTM(4, 3, rng=0, dtype=np.float64),
    ):
        here, there = make(), make()
        for tensor in there.parameters():
            nn.module._replace(tensor, strict.asarray)
        a, b = here(x), there(DiffTensor(strict.asarray(x)))
        a, b = (a[0], b[0]) if isinstance(a, tuple) else (a, b)
        ops.sum(a * a).backward(), ops.sum(b * b).backward()
        for p, q in zip(here.parameters(), there.parameters(), strict=True):
            close(q.grad, p.grad, rtol=1e-8)


# ---- PyTorch ----

LAYERS = {
    "rnn": (lambda m, **k: m.RNN(3, 4, 2, **k), {}),
    "gru": (lambda m, **k: m.GRU(3, 4, 2, **k), {}),
    "gru without bias": (lambda m, **k: m.GRU(3, 4, bias=False, **k), {}),
    "lstm": (lambda m, **k: m.LSTM(3, 4, 2, batch_first=True, **k), {}),
    "block": (lambda m, **k: m.TransformerEncoderLayer(4, 2, 8, 0.0, **k), {"size": 4}),
    "block normalised first": (
        lambda m, **k: m.TransformerEncoderLayer(4, 2, 8, 0.0, "gelu", norm_first=True, batch_first=True, **k),
        {"size": 4, "masked": True},
    ),
    "attention": (lambda m, **k: m.MultiheadAttention(4, 2, **k), {"size": 4, "three": True}),
    "attention without bias": (lambda m, **k: m.MultiheadAttention(4, 2, bias=False, **k), {"size": 4, "three": True}),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", LAYERS)
def test_sequence_layers_are_torchs(name):
    torch = pytest.importorskip("torch")
    make, how = LAYERS[name]
    ours, theirs = make(nn, dtype=np.float64), make(torch.nn, dtype=torch.float64)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    state = {k: RNG(i).normal(size=v.shape) for i, (k, v) in enumerate(ours.state_dict().items())}
    ours.load_state_dict(state)
    theirs.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()})
    x = RNG(20).normal(size=(6, 5, how.get("size", 3)))
    a, b = DiffTensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    if how.get("three"):
        mask = np.triu(np.ones((6, 6), bool), 1)
        y, z = ours(a, a * 2.0, a, attn_mask=mask), theirs(b, b * 2.0, b, attn_mask=torch.tensor(mask))
    elif how.get("masked"):
        mask = np.where(np.tri(5, dtype=bool), 0.0, -np.inf)
        y, z = ours(a, mask), theirs(b, torch.tensor(mask))
    else:
        y, z = ours(a), theirs(b)
    ys, zs = (flat(y), flat(z)) if isinstance(y, tuple) else ([y], [z])
    total, other = 0.0, 0.0
    for i, (p, q) in enumerate(zip(ys, zs, strict=True)):
        close(p.numpy(), q.detach())
        g = RNG(30 + i).normal(size=p.shape)
        total, other = total + ops.sum(p * g), other + (q * torch.tensor(g)).sum()
    total.backward(), other.backward()
    close(a.grad, b.grad, rtol=1e-8, atol=1e-10)
    grads = {k: p.grad for k, p in theirs.named_parameters()}
    for key, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad, grads[key], rtol=1e-8, atol=1e-10, err_msg=key)


def flat(tree):
    return [leaf for part in tree for leaf in flat(part)] if isinstance(tree, tuple) else [tree]
