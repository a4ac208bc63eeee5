"""Checkpoints on disk: what goes in comes out to the bit, what is not whole is refused, and kill -9 leaves a whole one."""

import hashlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import array_api_strict as strict
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings

from autograd import DiffTensor
from autograd.train import files, folder
from autograd.train.files import CheckpointError, DamagedCheckpoint, load_state, read_about, save_state
from autograd.train.folder import CheckpointFolder, CheckpointWarning, load_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def same(a, b):
    """Whether two states are equal in types, order and bits."""
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return struct.pack("d", a) == struct.pack("d", b) if isinstance(a, float) else a == b


def returns(path, state):
    save_state(path, state)
    return same(load_state(path), state)


def small():
    rng = np.random.default_rng(1)
    return {
        "model": {"0.weight": rng.standard_normal((2, 3)).astype(np.float32), "count": np.array(7)},
        "rng": rng.bit_generator.state,
        "best": math.inf,
    }


# ---- what goes in comes out ----

DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", "complex128", "longdouble", ">i4", ">f8", ">c16", "M8[ns]", "m8[D]", "U5", "S3",
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_come_back_with_dtype_shape_and_bits(path, dtype):
    values = np.random.default_rng(0).integers(0, 2, 6)
    shaped = {
        "2d": values.reshape(2, 3),
        "0d": values[0],
        "none": values[:0].reshape(0, 3),
        "empty": values[:0].reshape(2, 0, 3),
    }
    arrays = {name: np.asarray(x).astype("i8").astype(dtype) for name, x in shaped.items()}
    assert returns(path, {"arrays": arrays, "scalar": arrays["2d"][0, 0]})


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"])
def test_small_floats_come_back(path, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.arange(-3, 5).reshape(2, 4).astype(getattr(ml_dtypes, dtype))
    assert returns(path, {"x": x, "one": x[0, 0], "0d": np.array(x[1, 1]), "none": x[:0]})


def test_layouts_and_views(path):
    x = np.arange(24.0).reshape(2, 3, 4)
    for view in (x[::-1, :, ::2], np.asfortranarray(x), x.transpose(2, 0, 1), np.broadcast_to(x[0, 0], (5, 4))):
        assert returns(path, {"x": view})
    assert load_state(path)["x"].flags.writeable


def test_other_libraries_and_tensors_come_back_as_numpy(path):
    x = np.arange(3.0, dtype=np.float32)
    save_state(path, {"strict": strict.asarray(x), "tensor": DiffTensor(x, requires_grad=True)})
    loaded = load_state(path)
    assert same(loaded, {"strict": x, "tensor": x})


def test_random_streams_go_on(path):
    streams = [
        np.random.PCG64(1),
        np.random.PCG64DXSM(2),
        np.random.MT19937(3),
        np.random.Philox(4),
        np.random.SFC64(5),
    ]
    for stream in streams:
        np.random.Generator(stream).standard_normal(7)
    save_state(path, {"streams": [s.state for s in streams]})
    for stream, state in zip(streams, load_state(path)["streams"], strict=True):
        other = type(stream)()
        other.state = state
        assert np.random.Generator(other).random(9).tolist() == np.random.Generator(stream).random(9).tolist()


atoms = (
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**70) | st.floats() | st.text()
    | st.text(st.characters(categories=["Cs", "L"]), max_size=4)
    | hnp.arrays(st.sampled_from([np.float32, np.int64, np.complex128, np.bool_]), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0))
)  # fmt: skip
keys = (
    st.text(max_size=5)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.sampled_from(["$array", "$", "a.b", ""])
    | st.tuples(st.integers(), st.text(max_size=2))
)
states = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(keys, states, max_size=4))
def test_any_state_comes_back(state):
    arrays = {}
    structure = files.to_json(files.encode(state, (), arrays, "here"))
    stored = {
        n: {"dtype": files.STORED[a.dtype.name], "shape": list(a.shape), "data": a.tobytes()} for n, a in arrays.items()
    }
    assert same(files.decode(json.loads(structure), stored, None), state)


def test_numbers_that_json_has_no_word_for(path):
    nan = struct.unpack(">d", bytes.fromhex("7ff8000000000abc"))[0]  # a NaN with a payload
    state = {
        "floats": [nan, -math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1],
        "ints": [10**5000, -(2**63) - 1, 2**63 - 1],
    }
    assert returns(path, state)


def test_any_program_reads_the_arrays(path):
    save_state(path, small())
    arrays = safetensors.numpy.load_file(path)
    assert same(arrays["model.0.weight"], small()["model"]["0.weight"])
    with safetensors.safe_open(path, "np") as file:
        digest, _, text = file.metadata()["hammer checkpoint 1"].partition(" ")
        assert digest == hashlib.sha256(text.encode()).hexdigest()
        assert json.loads(text)["state"]["best"] == {"$float": "7ff0000000000000"}


def test_names_that_meet_stay_apart(path):
    assert returns(path, {"a": {"b": np.ones(1)}, "a.b": np.zeros(2), "__metadata__": np.ones(3), "\ud800": np.ones(4)})


def test_equal_states_give_equal_files(tmp_path):
    for name in ("a", "b"):
        save_state(tmp_path / f"{name}.safetensors", small())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


# ---- what cannot be saved ----


def loop():
    itself = {}
    itself["x"] = itself
    return itself


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [0, {"f": len}]}, r"state\['a'\]\[1\]\['f'\] is a builtins.builtin_function_or_method; a state holds"),
        ({"a": np.array([None])}, r"state\['a'\] is an array of object"),
        ({"a": np.zeros(2, "i4,f8")}, r"state\['a'\] is an array of \[\('f0'"),
        ({"a": {frozenset(): 1}}, r"state\['a'\] has the key frozenset\(\), a frozenset"),
        ({"a": {1, 2}}, r"state\['a'\] is a builtins.set"),
        (loop(), "nested more than 100 levels deep; does it hold itself"),
        ({"a": np.ma.array([1.0], mask=[True])}, r"state\['a'\] is a masked array; save its data and its mask"),
        ({"a": DiffTensor.symbol((2,))}, r"state\['a'\] is a symbolic tensor"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_named_and_nothing_is_written(path, state, message):
    save_state(path, small())
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message) as caught:
        save_state(path, state)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_deepest_state_that_is_saved_is_read(path):
    state = 1
    for _ in range(50):
        state = {3: (state,)}
    assert returns(path, state)
    with pytest.raises(CheckpointError, match="nested more than 100"):
        save_state(path, {"deeper": state})


def test_only_checkpoint_names_are_written(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(CheckpointError, match=r"ends with .safetensors"):
        save_state(notes, small())
    assert notes.read_text() == "mine"
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_state(tmp_path / "nowhere" / "x.safetensors", small())


def test_about_is_read_without_the_arrays_and_has_none(path):
    save_state(path, small(), about={"step": 3, "metric": math.nan})
    about = read_about(path)
    assert about["step"] == 3 and math.isnan(about["metric"])
    with pytest.raises(CheckpointError, match="about\\['x'\\] is an array"):
        save_state(path, small(), about={"x": np.ones(3)})
    assert read_about(path)["step"] == 3


# ---- files that are not whole ----


def refusal(path):
    with pytest.raises(DamagedCheckpoint) as caught:
        load_state(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500
    return message.removeprefix(f"{path}: ")


def test_every_truncation_is_refused(path):
    save_state(path, small(), about={"step": 1})
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 3), len(whole) - 1]:
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert "empty" in message if not length else "truncated" in message or "damaged" in message, (length, message)
        with pytest.raises(DamagedCheckpoint):
            read_about(path)
    path.write_bytes(whole + b"\0")
    assert "longer than its header says" in refusal(path)


def test_every_changed_byte_is_noticed(path):
    save_state(path, small(), about={"step": 1})
    whole = path.read_bytes()
    for at in [*range(40), *range(40, len(whole), 2), len(whole) - 1]:
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 7)
        path.write_bytes(changed)
        try:
            state = load_state(path)
        except DamagedCheckpoint:
            continue
        assert same(state, small()), f"byte {at} was changed, and so was what was loaded"


def header_of(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def file_of(header, content):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def test_a_header_that_lies_is_refused(path):
    save_state(path, small())
    header, content = header_of(path.read_bytes())
    name = "model.0.weight"

    def lies(change):
        told = json.loads(json.dumps(header))
        change(told)
        path.write_bytes(file_of(told, content))
        return refusal(path)

    entry = lambda h: h["__metadata__"][files.FORMAT]
    assert "altered" in lies(lambda h: h[name].update(shape=[3, 2]))
    assert "does not fit its arrays" in lies(lambda h: h[name].update(shape=[10**12, 10**12]))
    assert "altered" in lies(lambda h: h[name].update(dtype="I32"))
    assert "does not fit its arrays" in lies(lambda h: h[name].update(dtype="F31"))
    assert "header cannot be read" in lies(lambda h: h[name].update(data_offsets="all"))
    assert "truncated" in lies(lambda h: h[name].update(data_offsets=[0, 10**15]))
    assert "altered" in lies(lambda h: h["__metadata__"].update({files.FORMAT: entry(h).replace("Infinity", "0")[:-1]}))
    assert "altered" in lies(
        lambda h: h["__metadata__"].update({files.FORMAT: entry(h).replace('"about":{}', '"about":{"a":1}')})
    )
    assert "altered" in lies(lambda h: h["__metadata__"].update(more="?"))
    assert "cannot be read" in lies(lambda h: h["__metadata__"].update({files.FORMAT: {}}))
    assert "another program" in lies(lambda h: h.pop("__metadata__"))
    assert "saved by a newer version" in lies(lambda h: h.update(__metadata__={"hammer checkpoint 2": entry(h)}))


@pytest.mark.parametrize(
    "structure",
    ['{"a":{"$array":"gone"}}', '{"a":{"$spell":1}}', "[" * 90_000 + "]" * 90_000, '{"a":' * 150 + "1" + "}" * 150, '{"a":{"$float":"00"}}', "[1]", "{", '{"$dict":[[[1],2]]}', '{"a":{"$float":"zz"}}',
     '{"a":{"$array":"w","dtype":"O","shape":[1]}}', '{"a":{"$array":"w","dtype":"V1","shape":[99]}}', '{"a":{"$int":1}}', "7" * 5000],
)  # fmt: skip
def test_a_structure_without_sense_is_refused_though_its_checksum_fits(path, structure):
    arrays = {"w": np.ones(2, np.uint8)}
    digest = files._digest_of((n, "U8", a.shape, a.tobytes()) for n, a in arrays.items())
    text = f'{{"about":{{}},"arrays":"{digest}","state":{structure}}}'
    entry = f"{hashlib.sha256(text.encode()).hexdigest()} {text}"
    safetensors.numpy.save_file(arrays, path, metadata={files.FORMAT: entry})
    with pytest.raises(CheckpointError) as caught:
        load_state(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_foreign_files_are_named_and_never_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps({"model": Trap()}, protocol))
        assert "a pickle can run any code and is never read" in refusal(path)
    with zipfile.ZipFile(path, "w") as file:  # what torch.save writes
        file.writestr("archive/data.pkl", pickle.dumps(Trap()))
    assert "as torch.save" in refusal(path) and "safetensors.torch.save_file" in refusal(path)
    assert not (tmp_path / "sprung").exists()
    for content, word in (
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"), (b"\x93NUMPY\x01\x00v\x00" + bytes(100), ".npy"), (b"\x1f\x8b\x08\0" + bytes(100), "gzip"),
        (b'{"a": 1, "b": 2}', "JSON"), (b"task: classification\n", "not a safetensors file"), (bytes(64), "not a safetensors file"), (b"", "empty"),
    ):  # fmt: skip
        path.write_bytes(content)
        assert word in refusal(path)
        with pytest.raises(DamagedCheckpoint):
            read_about(path)
    safetensors.numpy.save_file({"w": np.ones(3)}, path)
    assert "another program" in refusal(path)


@pytest.mark.peers
def test_what_torch_saves_is_refused(path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(3)}, path)
    assert "as torch.save" in refusal(path)
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert "a pickle" in refusal(path)


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_state(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_about(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_state(tmp_path)


def test_a_missing_library_names_its_extra(path, monkeypatch):
    save_state(path, small())
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for use in (lambda: save_state(path, {}), lambda: load_state(path)):
        with pytest.raises(CheckpointError, match=r'pip install "hammer-grad\[train\]"') as caught:
            use()
        assert not isinstance(caught.value, DamagedCheckpoint)


# ---- the disk ----


def test_the_order_of_writing(path, monkeypatch):
    """The content is on the disk before the name is, and the name before the call returns."""
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda fd: done.append("file" if os.path.isfile(f"/proc/self/fd/{fd}") else "folder") or fsync(fd),
    )
    monkeypatch.setattr(files.os, "replace", lambda a, b: done.append("rename") or replace(a, b))
    save_state(path, small())
    assert done == ["file", "rename", "folder"] or not os.path.isdir("/proc/self/fd")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(path, monkeypatch, step, error):
    save_state(path, small())
    before = path.read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(
        CheckpointError if isinstance(error, OSError) else KeyboardInterrupt,
        match="No space left" if isinstance(error, OSError) else None,
    ):
        save_state(path, {"x": np.ones(3)})
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


# ---- folders ----


def steps_of(where):
    return [one.step for one in where.saved()]


def fill(where, metrics, first=1, **options):
    for step, metric in enumerate(metrics, first):
        where.save({"step": step, "x": np.full(3, step)}, step=step, epoch=step, metric=metric, **options)


def test_the_newest_and_the_best_are_kept(tmp_path):
    where = CheckpointFolder(tmp_path / "a" / "b", keep_last=2, keep_best=2)
    assert where.latest() is None and where.best() is None and where.saved() == []
    fill(where, [3.0, 1.0, 2.0, math.nan, 1.0, 5.0, None])
    assert steps_of(where) == [2, 5, 6, 7]
    assert where.latest()[1]["step"] == 7
    path, state = where.best()
    assert state["step"] == 2 and same(state["x"], np.full(3, 2)) and path.name == "000002-epoch-2-step-2.safetensors"
    assert where.saved()[0].metric == 1.0 and where.saved()[-1].metric is None


def test_larger_may_be_better_and_nan_never_is(tmp_path):
    where = CheckpointFolder(tmp_path, keep_best=1, mode="max")
    fill(where, [math.nan, 0.1, 0.5, math.inf, 0.2, math.nan])
    assert where.best()[1]["step"] == 4 and steps_of(where) == [4, 6]
    assert load_checkpoint(tmp_path / "best", mode="max")[1]["step"] == 4


def test_every_epoch_is_kept_and_steps_within_it_are_not(tmp_path):
    where = CheckpointFolder(tmp_path, keep_best=0, every_epoch=True)
    for step in range(1, 7):
        where.save({"step": step}, step=step, epoch=step // 2, end_of_epoch=step % 2 == 0)
    assert steps_of(where) == [2, 4, 6]


def test_a_run_that_goes_back_is_the_newest(tmp_path):
    where = CheckpointFolder(tmp_path)
    fill(where, [5.0, 4.0, 3.0, 6.0], first=10)
    again = CheckpointFolder(tmp_path)  # goes on from step 11, say
    fill(again, [9.0], first=12)
    assert again.latest()[1]["step"] == 12 and steps_of(again) == [12, 12]
    assert [one.number for one in again.saved()] == [3, 5]


def test_a_damaged_newest_is_passed_over_aloud_and_left_alone(tmp_path):
    where = CheckpointFolder(tmp_path, keep_last=3)
    fill(where, [3.0, 2.0, 1.0])
    newest = where.latest()[0]
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.warns(
        CheckpointWarning, match=f"{newest.name}: truncated: .*; 000002-epoch-2-step-2.safetensors is used instead"
    ):
        assert where.latest()[1]["step"] == 2
    with pytest.warns(CheckpointWarning, match=f"{newest.name}.* passed over, whatever its metric was"):
        assert where.best()[1]["step"] == 2
    fill(where, [1.5], first=4)
    assert newest.exists() and where.latest()[1]["step"] == 4 and steps_of(where) == [1, 2, 4]


def test_altered_arrays_of_the_newest_are_passed_over(tmp_path):
    where = CheckpointFolder(tmp_path, keep_last=2)
    fill(where, [2.0, 1.0])
    newest = where.latest()[0]
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    for find in (where.latest, where.best):
        with pytest.warns(CheckpointWarning, match="arrays were altered .*-step-1.safetensors is used instead"):
            assert find()[1]["step"] == 1


def test_no_whole_checkpoint_is_an_error(tmp_path):
    where = CheckpointFolder(tmp_path, keep_last=2)
    fill(where, [2.0, 1.0])
    for one in where.saved():
        one.path.write_bytes(b"PK\x03\x04 not ours")
    with pytest.raises(CheckpointError, match=r"none of its 2 checkpoints is whole; the first: .*ZIP archive"):
        where.latest()
    assert len(list(tmp_path.iterdir())) == 2


def test_old_ones_go_only_when_the_new_one_is_there(tmp_path, monkeypatch):
    where = CheckpointFolder(tmp_path, keep_best=0)
    fill(where, [1.0])
    monkeypatch.setattr(folder, "save_state", lambda *args: (_ for _ in ()).throw(CheckpointError("full")))
    with pytest.raises(CheckpointError, match="full"):
        fill(where, [1.0], first=2)
    assert steps_of(where) == [1]


def test_other_files_in_the_folder_stay(tmp_path):
    for name in ("notes.txt", "weights.safetensors", "1-epoch-1-step-1.safetensors"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".000009-epoch-1-step-9.safetensors.tmp").write_text("left behind by a killed process")
    where = CheckpointFolder(tmp_path)
    fill(where, [1.0, 2.0, 3.0])
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "notes.txt", "weights.safetensors", "1-epoch-1-step-1.safetensors", "000001-epoch-1-step-1.safetensors", "000003-epoch-3-step-3.safetensors",
    }  # fmt: skip


def test_what_resume_from_may_name(tmp_path):
    where = CheckpointFolder(tmp_path)
    fill(where, [1.0, 2.0, 3.0])
    steps = {
        name: load_checkpoint(tmp_path / name)[1]["step"]
        for name in ("", "last", "best", "000001-epoch-1-step-1.safetensors")
    }
    assert steps == {"": 3, "last": 3, "best": 1, "000001-epoch-1-step-1.safetensors": 1}
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load_checkpoint(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint in this folder"):
        load_checkpoint(tmp_path / "empty")


@pytest.mark.parametrize("options", [{"keep_last": 0}, {"keep_best": -1}, {"mode": "least"}])
def test_a_folder_says_what_is_wrong(tmp_path, options):
    with pytest.raises(ValueError, match="must be"):
        CheckpointFolder(tmp_path, **options)


# ---- kill -9 ----

KILLS = 25
KILLING = f"""
import os, random, signal, sys, time
import numpy as np
from pathlib import Path
from autograd.train.folder import CheckpointFolder

place, draw, left = Path(sys.argv[1]), random.Random(4), 0
where = CheckpointFolder(place, keep_last=2)
first = 1
for kill in range({KILLS}):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        for step in range(first, 10**6):
            state = {{"step": step, "x": np.full(100_000 + 1000 * (step % 7), float(step)), "list": [step] * 50}}
            where.save(state, step=step, epoch=step, metric=abs(step % 40 - 20.0))
            os.write(write, b"%d\\n" % step)
    os.close(write)
    os.read(read, 1)  # it has begun to save
    time.sleep(draw.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while part := os.read(read, 65536):
        told += part
    os.close(read)
    confirmed = max([first - 1, *map(int, told.split(b"\\n")[1:-1])])
    left += any(place.glob(".*.tmp"))
    newest, state = where.latest()  # a warning would be an error
    assert confirmed <= state["step"] <= confirmed + 1 or confirmed < first, (confirmed, state["step"])
    assert (state["x"] == state["step"]).all() and state["list"] == [state["step"]] * 50
    best = where.best()[1]["step"]
    assert abs(best % 40 - 20.0) == min(abs(s % 40 - 20.0) for s in range(1, state["step"] + 1)), best
    assert len(where.saved()) <= 4
    first = state["step"] + 1
print(left, first)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
def test_kill_9_at_any_time_leaves_a_whole_checkpoint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    interrupted, saved = map(int, done.stdout.split())
    assert interrupted > 0, "no kill came while a file was written"
    assert saved > KILLS
