"""200 spoiled configs and 200 spoiled checkpoints: each must be refused with one clear line, none may crash or be taken for good.

Every file is a whole one with one seeded mutation. It counts as *refused* if loading raises ConfigError or CheckpointError
with one line that names the file; *crashed* if it raises anything else, or the file on the disk changes; *accepted* if
something is loaded that differs from the original: for a checkpoint in any type, key, order or bit, for a config in any value.
A file that still loads as exactly the original (a flipped bit in the padding of a header) is counted as *equal*.

Mutations of configs are drawn so that the result says something wrong, by its making: a text that was cut at the end of a line,
or has another digit in a number, is a config like any other, and no reader can know that it was meant otherwise. So cuts fall
inside brackets or quotes, and flipped bits inside keys (where they do not start a comment or end the key). Checkpoints are cut
and flipped anywhere.

The last line is JSON: tried, refused, crashed, accepted, and equal.
"""

import hashlib
import json
import pickle
import random
import re
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import numpy as np

from autograd.train.config import ConfigError, load_config
from autograd.train.files import FORMAT, CheckpointError, load_state, save_state

YAML = """\
task: classification
seed: 7
device: cpu
data:
  batch_size: 64
  num_workers: 2
  val_split: 0.1
training:
  epochs: 12
  lr: 3e-4
  grad_clip: 1.0
  use_amp: false
  checkpoint_dir: ./runs/a
scheduler:
  type: CosineAnnealingLR
  warmup_steps: 100
  min_lr: 1e-6
early_stopping:
  enabled: true
  patience: 4
logging:
  wandb:
    project: "digits and more"
optimizer:
  chain: [{name: clip_by_value, limit: 10.0}, {name: adamw, betas: [0.9, 0.99], weight_decay: 0.05}]
"""
KEY = re.compile(r"^( *)([a-z_]+):", re.MULTILINE)

# ---- configs ----


def cut(draw: random.Random, text: str) -> str:
    """The text up to a place inside brackets or quotes."""
    spans = [(m.start(1) + 1, m.end(1) - 1) for m in re.finditer(r"(\[.*\]|\".*\")", text)]
    return text[: draw.randint(*draw.choice(spans))]


def flip(draw: random.Random, text: str) -> bytes:
    """A flipped bit in a key."""
    data = bytearray(text.encode())
    while True:
        m = draw.choice(list(KEY.finditer(text)))
        at, bit = draw.randrange(m.start(2), m.end(2)), 1 << draw.randrange(8)
        if chr(data[at] ^ bit) not in "# \t\n\r:?-\"'&*!|>%@`{}[],":
            data[at] ^= bit
            return bytes(data)


def misspell(draw: random.Random, text: str) -> str:
    m = draw.choice([m for m in KEY.finditer(text) if len(m[2]) > 3])
    word, at = m[2], draw.randrange(1, len(m[2]) - 1)
    wrong = draw.choice([word[:at] + word[at + 1 :], word[:at] + "x" + word[at:], word.upper(), word[::-1], word + "s"])
    return text[: m.start(2)] + wrong + text[m.end(2) :]


def valued(draw: random.Random, text: str, values: Callable[[str, str], list[str]]) -> str:
    """Another value for a key that has one."""
    options = [m for m in re.finditer(r"^( *[a-z_]+): (.+)$", text, re.MULTILINE) if values(m[1].strip(), m[2])]
    m = draw.choice(options)
    return text[: m.start(2)] + draw.choice(values(m[1].strip(), m[2])) + text[m.end(2) :]


def wrong_type(key: str, value: str) -> list[str]:
    """Values of types that no key of this kind takes."""
    text = key in ("task", "device", "type", "checkpoint_dir", "project")
    return (
        ["[]", "{a: 1}", "[1, 2]", "- 1", *(["3", "true", "1.5"] if text else ['"1"', "many", "~x"])]
        if key != "chain"
        else ["3", "{}", "adamw", "[[adamw]]", "[3]", "null"]
    )


def out_of_range(key: str, value: str) -> list[str]:
    whole = ("seed", "batch_size", "num_workers", "epochs", "patience", "warmup_steps")
    real = ("val_split", "lr", "grad_clip", "min_lr")
    words = {"task": ["segmentation", "captioning"], "device": ["gpu", "cuda:x", "tpu"], "type": ["Cosine", "steplr"]}
    return (
        ["-1", "1.5", "-0.5"]
        if key in whole
        else ["-1", ".nan", ".inf", "-.inf"]
        if key in real
        else words.get(key, [])
    )


def huge(key: str, value: str) -> list[str]:
    whole = ("seed", "batch_size", "num_workers", "epochs", "warmup_steps")
    return (
        ["9" * n for n in (30, 400, 5000, 100_000)]
        if key in whole
        else ["1e999", "9" * 5000, "-" + "9" * 400]
        if key in ("lr", "min_lr", "grad_clip")
        else []
    )


def nest(draw: random.Random, text: str) -> str:
    n = draw.choice([30, 500, 20_000])
    kind = draw.choice(["[", "{a: ", "- "])
    return text + ("deep: " + kind * n if kind != "- " else "deep:\n  " + kind * n)


def twice(draw: random.Random, text: str) -> str:
    """A key given twice."""
    m = draw.choice(list(re.finditer(r"^ *[a-z_]+: .+\n", text, re.MULTILINE)))
    return text[: m.end()] + m[0] + text[m.end() :]


def insert(draw: random.Random, text: str, pieces: list[bytes]) -> bytes:
    data, at = text.encode(), draw.randrange(len(text))
    return data[:at] + draw.choice(pieces) + data[at:]


def yaml_magic(draw: random.Random, text: str) -> str:
    extra = [
        "more: &a 1\nother: *a\n",
        "seed2: !!python/object/apply:os.system ['true']\n",
        "<<: {seed: 3}\n",
        "? [a, b]\n: 1\n",
        "---\nseed: 3\n",
        "x: !!binary aGk=\n",
    ]
    return text + draw.choice(extra)


def elsewhere(draw: random.Random, text: str) -> str:
    """A key under another section."""
    moved = draw.choice(
        ["lr: 1e-3", "batch_size: 3", "epochs: 3", "patience: 3", "project: x", "val_split: 0.5", "chain: [sgd]"]
    )
    into = draw.choice(["data", "training", "scheduler", "early_stopping", "logging", "optimizer"])
    home = {
        "lr": "training",
        "batch_size": "data",
        "epochs": "training",
        "patience": "scheduler early_stopping",
        "project": "",
        "val_split": "data",
        "chain": "optimizer",
    }
    if into in home[moved.partition(":")[0]].split():
        return elsewhere(draw, text)
    return text.replace(f"\n{into}:\n", f"\n{into}:\n  {moved}\n")


def contradict(draw: random.Random, text: str) -> str:
    return text + draw.choice([
        "precision: {dtype: bf16}\n", "checkpointing: {segments: 3, budget_mb: 1}\n", "compression: {method: nothing}\n", "precision: {loss_scale: 8}\n",
        "energy: {}\n", "agents: {count: 2}\n", "metrics: {names: [sharpness]}\n",
    ])  # fmt: skip


def indent(draw: random.Random, text: str) -> str:
    """Broken indentation."""
    m = draw.choice(list(re.finditer(r"^  (?=[a-z])", text, re.MULTILINE)))
    return text[: m.start()] + draw.choice(["\t", "   \t", ""]) + text[m.end() :]


def names(draw: random.Random, text: str) -> str:
    """Wrong names and options in the chain."""
    old, new = draw.choice([("adamw", "adamm"), ("limit: 10.0", "limit: -1"), ("limit: 10.0", "bound: 1"), ("limit: 10.0", "limit: ten"), ("0.99]", "1.5]"),
                            (", 0.99]", "]"), ("weight_decay", "lr"), ("clip_by_value, limit: 10.0", "sgd"), ("adamw, betas: [0.9, 0.99], weight_decay: 0.05", "trace, momentum: 0.9")])  # fmt: skip
    return text.replace(old, new)


FOREIGN = [
    b"PK\x03\x04" + bytes(60), pickle.dumps({"seed": 7}), b"\x1f\x8b\x08\0" + bytes(60), b"\x89PNG\r\n\x1a\n" + bytes(60), b"\x89HDF\r\n\x1a\n" + bytes(60),
    b"<?xml version='1.0'?><seed>7</seed>", b"import os\nos.remove('x')\n", b"[training]\nlr = 1\n", b"[1, 2, 3]", b"seed", b"%PDF-1.7\n", b"", b"\xff\xfes\0e\0e\0d\0",
]  # fmt: skip

CONFIGS: dict[str, Callable[[random.Random, str], str | bytes]] = {
    "cut inside brackets or quotes": cut,
    "bit flipped in a key": flip,
    "misspelled key": misspell,
    "value of another type": lambda d, t: valued(d, t, wrong_type),
    "value out of range": lambda d, t: valued(d, t, out_of_range),
    "huge number": lambda d, t: valued(d, t, huge),
    "deep nesting": nest,
    "key given twice": twice,
    "bytes that are not UTF-8": lambda d, t: insert(d, t, [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x80"]),
    "control characters": lambda d, t: insert(d, t, [b"\0", b"\x01", b"\x1b[2J", b"\x7f"]),
    "foreign format": lambda d, t: d.choice(FOREIGN),
    "tags, aliases, documents": yaml_magic,
    "key in another section": elsewhere,
    "contradiction, or a part that is not there": contradict,
    "broken indentation": indent,
    "wrong names or options": names,
}

# ---- checkpoints ----


def original() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "model": {f"{i}.weight": rng.standard_normal((8, 6)).astype(np.float32) for i in range(3)} | {"steps": np.array(12), "mask": rng.random(9) > 0.5},
        "optimizer": {"m": [rng.standard_normal(7) for _ in range(2)], "lr": 3e-4, "t": [5, 5]},
        "rng": rng.bit_generator.state, "best": float("inf"), "place": (3, 41), "spectrum": rng.standard_normal(4) + 1j,
    }  # fmt: skip


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def joined(header: Any, content: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def flipped(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 16])):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwritten(draw: random.Random, data: bytes) -> bytes:
    n = draw.randint(4, 200)
    at = draw.randrange(len(data) - n)
    return data[:at] + (bytes(n) if draw.random() < 0.5 else draw.randbytes(n)) + data[at + n :]


def swapped(draw: random.Random, data: bytes) -> bytes:
    """Two blocks, or the places or names of two tensors, exchanged."""
    header, content = parts(data)
    a, b = draw.sample([name for name in header if name != "__metadata__" and "weight" in name], 2)
    if draw.random() < 0.5:
        header[a], header[b] = header[b], header[a]
        return joined(header, content)
    (a0, a1), (b0, b1) = header[a]["data_offsets"], header[b]["data_offsets"]
    new = bytearray(content)
    new[a0:a1], new[b0:b1] = content[b0:b1], content[a0:a1]
    return joined(header, bytes(new))


def lie(draw: random.Random, data: bytes) -> bytes:
    """A header that says what is not so."""
    header, content = parts(data)
    name = draw.choice([name for name in header if name.endswith("weight")])
    tensor = header[name]
    change = draw.randrange(10)
    if change < 6:
        tensor.update([
            {"shape": tensor["shape"][::-1]}, {"dtype": draw.choice(["I32", "U32", "F64", "F99"])}, {"shape": [2**62, 2**62]},
            {"data_offsets": [0, 2**60]}, {"data_offsets": tensor["data_offsets"][::-1]}, {"shape": "many", "data_offsets": None},
        ][change])  # fmt: skip
        return joined(header, content)
    if change == 6:
        del header[name]
        return joined(header, content)
    if change == 7:
        header["extra"] = {"dtype": "U8", "shape": [1], "data_offsets": [len(content), len(content) + 1]}
        return joined(header, content + b"x")
    if change == 8:
        header["__metadata__"] = draw.choice(
            [
                {},
                [],
                {FORMAT: 3},
                {"hammer checkpoint 9": header["__metadata__"][FORMAT]},
                {**header["__metadata__"], "a": "b"},
            ]
        )
        return joined(header, content)
    return struct.pack("<Q", draw.choice([0, 1, 2**63, 2**64 - 1, len(data), len(data) - 8])) + data[8:]


def doubled(draw: random.Random, data: bytes) -> bytes:
    """An entry of the header given twice, the second one with another content."""
    header, content = parts(data)
    name = draw.choice([name for name in header if name.endswith("weight")])
    other = {**header[name], "shape": header[name]["shape"][::-1]}
    text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(other)}}}"
    return joined(text.encode(), content)


def resealed(draw: random.Random, data: bytes) -> bytes:
    """A structure without sense under a checksum that fits it."""
    header, content = parts(data)
    found = json.loads(header["__metadata__"][FORMAT].partition(" ")[2])
    deep = draw.choice([200, 900, 50_000])
    state = draw.choice([
        "[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, '{"a":{"$array":"nothing"}}', '{"a":{"$run":"rm"}}', "[1]", "3", "{", '{"$dict":[[[1],2]]}',
        '{"a":{"$float":"zz"}}', '{"a":{"$int":"0xzz"}}', '{"a":{"$tuple":3}}', '{"a":' + "9" * 6000 + "}", '{"a":{"$array":"model.0.weight","dtype":"O","shape":[8,6]}}',
        '{"a":{"$array":"model.0.weight","dtype":"<f8","shape":[99]}}', '{"a":{"$array":["model.0.weight"]}}',
    ])  # fmt: skip
    text = f'{{"about":{{}},"arrays":"{found["arrays"]}","state":{state}}}'
    header["__metadata__"] = {FORMAT: f"{hashlib.sha256(text.encode()).hexdigest()} {text}"}
    return joined(header, content)


def not_utf8(draw: random.Random, data: bytes) -> bytes:
    n = struct.unpack("<Q", data[:8])[0]
    at = draw.randrange(9, 8 + n)
    return struct.pack("<Q", n + 1) + data[8:at] + draw.choice([b"\xff", b"\x80", b"\0", b"\xc3"]) + data[at:]


def foreign(draw: random.Random, data: bytes) -> bytes:
    import io

    import safetensors.numpy

    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez(npz, w=np.ones(3))
    np.save(npy, np.ones(3))
    return draw.choice([
        *FOREIGN, npz.getvalue(), npy.getvalue(), safetensors.numpy.save({"w": np.ones(3)}), safetensors.numpy.save({}), draw.randbytes(500), b"{}", YAML.encode(),
        *(pickle.dumps({"w": [1.0]}, p) for p in range(2, 6)),
    ])  # fmt: skip


CHECKPOINTS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "truncated": lambda d, b: b[: d.randrange(len(b))],
    "bytes added": lambda d, b: b + d.randbytes(d.randint(1, 50)),
    "bits flipped": flipped,
    "bytes overwritten": overwritten,
    "tensors swapped": swapped,
    "header that lies": lie,
    "entry given twice": doubled,
    "structure without sense, checksum right": resealed,
    "header not UTF-8": not_utf8,
    "foreign format": foreign,
}

# ---- judging ----


def bits(value: Any) -> Any:
    """A value that is equal just where type, order and bits are."""
    if isinstance(value, np.ndarray | np.generic):
        return type(value).__name__, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return "dict", [(bits(k), bits(v)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [bits(v) for v in value]
    return type(value).__name__, repr(value)


def judge(path: Path, data: bytes, load: Callable[[Path], Any], error: type[Exception], whole: Any) -> tuple[str, str]:
    """What became of a file: refused, crashed, accepted or equal; and the message."""
    path.write_bytes(data)
    try:
        found = load(path)
    except error as refusal:
        message = str(refusal)
        clear = "\n" not in message and str(path) in message and len(message) < 1000
        same = path.read_bytes() == data and len(list(path.parent.iterdir())) == 1
        return ("refused" if clear and same else "crashed"), message.replace(f"{path.parent}/", "")
    except BaseException as crash:  # noqa: BLE001  (whatever it is, it is what this script looks for)
        return "crashed", f"{type(crash).__name__}: {crash}"[:300]
    return ("equal" if found == whole else "accepted"), "loaded"


def spoil(kinds: dict[str, Callable], whole: Any, count: int, seed: int) -> list[tuple[str, bytes]]:
    """``count`` spoiled files, the kinds in turn; none is the whole file itself, and no two are the same."""
    made: list[tuple[str, bytes]] = []
    seen = {whole.encode() if isinstance(whole, str) else whole}
    for i in range(20 * count):
        kind = list(kinds)[i % len(kinds)]
        data = kinds[kind](random.Random(f"{seed}/{kind}/{i}"), whole)
        data = data.encode() if isinstance(data, str) else data
        if data not in seen:
            seen.add(data)
            made.append((kind, data))
        if len(made) == count:
            break
    return made


def main() -> None:
    p = common.parser(__doc__)
    p.add_argument("--count", type=int, default=200, help="files of each sort (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args()
    results: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        config, checkpoint = Path(folder, "a", "run.yaml"), Path(folder, "b", "run.safetensors")
        for path in (config, checkpoint):
            path.parent.mkdir()
        config.write_text(YAML)
        save_state(checkpoint, original())
        data = checkpoint.read_bytes()
        sorts: list[tuple[str, Any, Path, Callable[[Path], Any], type[Exception], Any, dict[str, Callable]]] = [
            ("config", YAML, config, load_config, ConfigError, load_config(config), CONFIGS),
            (
                "checkpoint",
                data,
                checkpoint,
                lambda p: bits(load_state(p)),
                CheckpointError,
                bits(original()),
                CHECKPOINTS,
            ),
        ]
        for sort, whole, path, load, error, value, kinds in sorts:
            assert load(path) == value, f"the whole {sort} does not load"
            for kind, spoiled in spoil(kinds, whole, options.count, options.seed):
                results.append((sort, kind, *judge(path, spoiled, load, error, value)))
    outcomes = ("refused", "crashed", "accepted", "equal")
    counts = Counter((sort, kind, outcome) for sort, kind, outcome, _ in results)
    rows = []
    for sort, kind in dict.fromkeys((sort, kind) for sort, kind, _, _ in results):
        example = next((m for s, k, o, m in results if (s, k, o) == (sort, kind, "refused")), "")
        of = [counts[sort, kind, outcome] for outcome in outcomes]
        rows.append([f"{sort}: {kind}", sum(of), *of, f"`{example[:150].replace('|', '/').replace('`', chr(39))}`"])
    bad = [
        f"- {sort}, {kind}: {outcome}: {message}"
        for sort, kind, outcome, message in results
        if outcome in ("crashed", "accepted")
    ]
    total = Counter(outcome for _, _, outcome, _ in results)
    lines = [
        "Files with one seeded mutation each. What counts as which, and which mutations of configs no reader can notice, is said at the top of the script.", "",
        *common.table(["mutation", "tried", *outcomes, "for example"], rows), "", *(bad or ["Nothing crashed, and nothing wrong was accepted."]),
    ]  # fmt: skip
    print("\n".join(lines))
    figures = {"tried": len(results), **{outcome: total[outcome] for outcome in outcomes}}
    options.command = f"python benchmarks/bad_files.py --count {options.count} --seed {options.seed}"
    common.finish(options, "bad_files", lines, figures, {"seed": options.seed, "messages": [list(r) for r in results]})


if __name__ == "__main__":
    main()
