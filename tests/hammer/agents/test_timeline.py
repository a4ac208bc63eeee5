"""The recorder, the timeline of its notes, and what is predicted from them."""

import itertools
import json
import re

import numpy as np
import pytest
from test_communicator import everything
from test_team import LINKED, X, Y, model

from autograd.train import Trainer
from hammer import agents
from hammer.agents import scaling
from hammer.agents.timeline import RankNotes, Timeline


def notes(operations, begin=0.0, end=10.0, steps=(), shift=0.0):
    """Notes of one rank; an operation is (called, posted, asked, done) or these with the ranks it needs."""
    rows = [[n, "all_reduce", 100, 0, *moments[:4], *(moments[4:] or [None])] for n, moments in enumerate(operations)]
    return RankNotes.shifted(begin, end, shift, steps, len(steps), rows)


def spans(timeline, rank):
    return [(s.kind, round(s.start, 6), round(s.end, 6), s.whom) for s in timeline.spans[rank]]


def test_waiting_ends_when_the_last_rank_has_called():
    timeline = Timeline([notes([(2, 2.5, 3, 8)]), notes([(7, 7, 7, 8)]), notes([(4, 4, 5, 6)])])
    assert spans(timeline, 0) == [
        ("compute", 0, 2, -1), ("communicate", 2, 2.5, -1), ("compute", 2.5, 3, -1), ("wait", 3, 7, 1),
        ("communicate", 7, 8, -1), ("compute", 8, 10, -1),
    ]  # fmt: skip
    assert spans(timeline, 1) == [("compute", 0, 7, -1), ("communicate", 7, 8, -1), ("compute", 8, 10, -1)]
    assert spans(timeline, 2)[1] == ("wait", 5, 6, 1)  # as long as it lasted, though the rank came later
    assert timeline.totals()[0] == {"compute": 4.5, "wait": 4.0, "communicate": 1.5}
    assert timeline.efficiency == pytest.approx((4.5 + 9 + 9) / 30)
    assert timeline.waited() == {(0, 1): 4.0, (2, 1): 1.0}
    assert timeline.stragglers() == ["rank 1 is late: rank 0 waited 4 s for it, 40% of 10 s"]
    assert timeline.stragglers(0.5) == []


def test_an_exchange_waits_for_its_neighbours_only():
    timeline = Timeline([notes([(1, 1, 1, 4, [2])]), notes([(9, 9, 9, 9, [0])]), notes([(3, 3, 3, 3, [1])])])
    assert spans(timeline, 0)[1:3] == [("wait", 1, 3, 2), ("communicate", 3, 4, -1)]


def test_clocks_are_shifted_and_older_operations_left_out():
    late = RankNotes.shifted(
        100.0, 110.0, -100.0, [[105.0, 400]], 2, [[1, "barrier", 0, 0, 106.0, 106.0, 106.0, 107.0, None]]
    )
    timeline = Timeline([notes([(1, 1, 1, 1), (2, 2, 2, 7)], steps=[(5.0, 100)]), late])
    assert spans(timeline, 0)[0] == ("wait", 0, 4, 1)  # from the first operation that both have
    assert timeline.bytes_per_step() == [100, 200] and timeline.steps == 1


def recorded(comm, now, slow=None):
    """Ranks that work for 1 s a step, one of them 10 s, by a clock that stands still otherwise; threads take turns."""
    said = []
    recorder = agents.Recorder(comm, every=4, tell=said.append, clock=lambda: now[0])
    everything(recorder)
    for _ in range(8):
        now[0] += 10.0 if recorder.rank == slow else 1.0
        recorder.all_reduce(np.ones(1000, np.float32)).wait()
        recorder.step()
    return said, recorder.timeline(), recorder.sent == comm.sent


def test_a_recorder_is_a_communicator_that_names_the_slow_rank():
    found = agents.run(3, recorded, [0.0], 1)
    (lines, timeline, _), (others, _, _), _ = found
    assert len(lines) == 2 and others == [] and all(same for _, _, same in found)
    said = r"steps 5 to 8: rank 1 is behind: it computed 40 s of [\d.]+ s, the others 4 s, and waited about 36 s for it"
    assert re.fullmatch(said, lines[1])
    assert [total["compute"] for total in timeline.totals()] == [8.0, 80.0, 8.0]
    assert timeline.steps == 8 and "parallel efficiency" in str(timeline)
    for lane in timeline.spans:
        assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(lane))
    assert agents.run(3, recorded, [0.0])[0][0] == [] and recorded(agents.Alone(), [0.0])[0] == []


def test_only_the_last_operations_and_steps_are_kept():
    def few(comm):
        recorder = agents.Recorder(comm, most=5)
        for _ in range(9):
            recorder.all_reduce(np.ones(3)).wait()
            recorder.step()
        return recorder.timeline()

    timeline = agents.run(2, few)[0]
    assert [o.number for o in timeline.notes[0].operations] == [4, 5, 6, 7, 8]
    assert timeline.steps == 9 and len(timeline.notes[0].steps) == 5 and timeline.bytes_per_step() == [24.0, 24.0]


def test_a_page_and_a_trace(tmp_path):
    timeline = Timeline([notes([(2, 2.5, 3, 8)], steps=[(9.0, 100)]), notes([(7, 7, 7, 8)], steps=[(9.0, 100)])])
    timeline.save_html(tmp_path / "t.html", "A & B", "more <notes>")
    page = (tmp_path / "t.html").read_text("utf-8")
    assert (
        "A &amp; B" in page
        and "more &lt;notes&gt;" in page
        and "parallel efficiency" in page
        and "src=" not in page
        and "://" not in page
    )
    data = json.loads(re.search(r"const data = (\{.*?\}), colours", page)[1])
    assert data["lanes"][0][3] == [1, 3e6, 4e6, "all_reduce", 1] and data["steps"] == [9e6]
    timeline.save_trace(tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {
        "ph": "X",
        "name": "all_reduce",
        "cat": "wait",
        "ts": 3e6,
        "dur": 4e6,
        "pid": 0,
        "tid": 0,
        "args": {"waits for": 1},
    } in events
    assert {e["ph"] for e in events} == {"M", "X", "b", "e"}
    assert [(e["ts"], e["args"]) for e in events if e["ph"] == "b" and e["tid"] == 0] == [
        (2e6, {"bytes": 100, "step": 0})
    ]


def test_the_ending_says_what_is_saved(tmp_path):
    timeline = Timeline([notes([(2, 2.5, 3, 8)])])
    assert timeline.save(tmp_path / "a.b.html") == [tmp_path / "a.b.html", tmp_path / "a.b.json"]
    assert timeline.save(str(tmp_path / "c.json")) == [tmp_path / "c.json"]
    with pytest.raises(ValueError, match=r"must end in \.html or \.json"):
        timeline.save(tmp_path / "d.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.b.html", "a.b.json", "c.json"]


def test_a_team_marks_its_steps():
    def train(comm):
        recorder = agents.Recorder(comm)
        trainer = Trainer(model(), "cross_entropy", "sgd", lr=0.1, agents=LINKED(recorder))
        trainer.fit((X, Y), epochs=1, batch_size=12)
        return recorder.timeline()

    timeline = agents.run(2, train)[0]
    assert timeline.steps == 5 and min(timeline.bytes_per_step()) > 0


# ---- scaling ----


@pytest.mark.parametrize("algorithm", ["ring", "halving"])
def test_the_model_is_found_again(algorithm):
    true = scaling.AlphaBeta(5e-6, 2e-10, 4, algorithm)
    model = scaling.fit([(b, true.seconds(b, 4)) for b in scaling.SIZES], 4, algorithm)
    assert model.alpha == pytest.approx(5e-6) and model.beta == pytest.approx(2e-10) and model.error < 1e-9
    assert true.seconds(1000, 4, "ring") == pytest.approx(6 * 5e-6 + 1.5 * 1000 * 2e-10)
    assert true.seconds(0, 5, "halving") == pytest.approx(6 * 5e-6) and true.seconds(1e6, 1) == 0.0
    falling = scaling.fit([(1000, 2e-3), (10_000, 1e-3)], 4, algorithm)  # noise: no negative bandwidth
    assert falling.beta == 0.0 and falling.alpha > 0 and "too large to be seen" in str(falling)


def test_what_cannot_be_fitted_is_named():
    for samples, ranks, algorithm, said in (
        ([(1, 1.0), (2, 1.0)], 1, "ring", "one rank sends nothing"), ([(1, 1.0), (1, 2.0)], 2, "ring", "two sizes"),
        ([(1, 1.0), (2, 0.0)], 2, "ring", "more than 0"), ([(1, 1.0), (2, 1.0)], 2, "tree", '"ring" or "halving"'),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            scaling.fit(samples, ranks, algorithm)


def test_measured_on_ranks():
    samples = agents.run(2, scaling.measure, (1000, 100_000), 3)
    assert samples[0] == samples[1] and [b for b, _ in samples[0]] == [1000, 100_000]
    assert scaling.fit(samples[0], 2).seconds(1000, 2) > 0


def test_a_prediction_says_what_it_assumes():
    model = scaling.AlphaBeta(1e-5, 1e-9, 2)
    found = scaling.predict(model, 4e6, 0.05, messages=2)
    assert [row[0] for row in found.rows] == [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    _, ring, halving, step, part = found.rows[0]
    assert ring == pytest.approx(2 * 14e-5 + 7e-3) and halving == pytest.approx(2 * 6e-5 + 7e-3)
    assert step == pytest.approx(0.05 + halving) and part == pytest.approx(0.05 / step)
    assert all(a[4] > b[4] for a, b in itertools.pairwise(found.rows))
    hidden = scaling.predict(model, 4e6, 0.05, messages=2, hidden=0.5)
    assert hidden.rows[0][3] == 0.05 and "50% of the computing time" in str(hidden)
    assert "weak scaling" in str(found) and "4,096" in str(found) and "not measured" in str(found)
    with pytest.raises(ValueError, match="hidden must be in"):
        scaling.predict(model, 1.0, 1.0, hidden=2.0)
