"""Memory that is used again: only when nobody looks at it any more, and only where it is worth it."""

import numpy as np
import pytest

from hammer import agents
from hammer.agents.memory import LEAST_BYTES, MOST_KEPT, Memory

MANY = LEAST_BYTES // 4


def place(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_view_is_gone():
    memory, f4 = Memory(), np.dtype(np.float32)
    first = memory.empty(MANY, f4)
    first[:] = 1.0
    at, view = place(first), first[10:40].reshape(5, 6)[1:].T
    del first
    other = memory.empty(MANY, f4)
    other[:] = 2.0
    assert place(other) != at and (view == 1.0).all()
    del view
    assert place(memory.empty(MANY, f4)) == at
    assert place(memory.empty(MANY, f4)) == at, "given out, and given back at once"


@pytest.mark.parametrize(("length", "dtype"), [(MANY + 1, "f4"), (MANY, "i4"), (MANY // 2, "f8")])
def test_vectors_of_another_kind_get_their_own(length, dtype):
    memory = Memory()
    at = place(memory.empty(MANY, np.dtype("f4")))
    x = memory.empty(length, np.dtype(dtype))
    assert (x.size, x.dtype, x.flags.carray) == (length, dtype, True)
    assert place(memory.empty(MANY, np.dtype("f4"))) == at


def test_small_vectors_are_new_and_few_are_kept():
    memory = Memory()
    for n in (0, 1, MANY - 1):
        assert memory.empty(n, np.dtype("f4")).flags.owndata
    held = [memory.empty(MANY, np.dtype("f4")) for _ in range(MOST_KEPT + 9)]
    del held
    assert len(memory._free) == MOST_KEPT and not memory._lent


def test_a_step_takes_the_memory_of_the_step_before():
    """And what an optimizer keeps of a mean stays what it was."""

    def places(comm):
        link = agents.all_reduce(comm, deterministic=False)
        params = [np.zeros(2 * MANY, np.float32)]
        state, at, kept = link.init(params), [], []
        for step in range(6):
            (mean,), state = link.update([np.full(2 * MANY, step + comm.rank, np.float32)], state, params)
            at.append(place(mean))
            if step == 3:
                kept.append(mean[5:8])
            del mean
        return at, kept[0].tolist()

    for at, kept in agents.run(2, places):
        assert len(set(at[:4])) == 1 and at[4] == at[5] != at[3]
        assert kept == [3.5] * 3
