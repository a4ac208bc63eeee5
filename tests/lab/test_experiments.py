"""The studies under experiments/: each loads, says what would falsify it, and its small version runs and draws."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from hammer import topology
from hammer.lab import studies
from hammer.lab.worker import one_blas_thread_here

ROOT = Path(__file__).resolve().parents[2] / "experiments"
STUDIES = sorted(path.parent.name for path in ROOT.glob("*/study.py"))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_states_its_claim_and_has_a_page(name):
    module = studies.load(ROOT / name)
    assert len(module.CLAIM) > 40 and len(module.FALSIFIED_IF) > 20
    page = (ROOT / name / "README.md").read_text(encoding="utf-8")
    assert f"hammer run experiments/{name}" in page


@pytest.mark.parametrize("name", ["bilinear_game", "noisy_quadratic", "stability_map"])
def test_the_small_version_runs(name, tmp_path):
    outcome = studies.load(ROOT / name).run(studies.Work(ROOT / name, tmp_path, quick=True))
    assert outcome.figures and outcome.summary
    for picture, content in outcome.pictures.items():
        if picture.endswith(".svg"):
            assert ET.fromstring(content).tag.endswith("svg")
    if name == "bilinear_game":
        radii = [*outcome.figures["radii"].values()]
        np.testing.assert_allclose(radii, [1.005, 1.198, 0.977], atol=6e-4)
        assert outcome.verdict == "holds"
    if name == "stability_map":
        assert outcome.verdict == "holds" and outcome.figures["random_wrong"] == 0


def test_a_small_network_groks_with_weight_decay_and_not_without():
    """(a + b) mod 47: the training half is learnt by heart first; the rule comes later, and only with weight decay."""
    small = studies.load(ROOT / "grokking").small
    with one_blas_thread_here():  # the products are too small to gain from more
        with_decay, without = small(1.0, 0, 200), small(0.0, 0, 100)
    learnt = with_decay["steps"][with_decay["train"] >= 0.99][0]
    ruled = with_decay["steps"][with_decay["held"] >= 0.95][0]
    assert ruled > 1.5 * learnt
    assert without["train"][-1] >= 0.99 and without["held"][-1] < 0.2


def test_paths_between_networks():
    """A network with its hidden units in another order is matched with itself; a barrier is the depth of the second basin."""
    study = studies.load(ROOT / "mode_connectivity")
    rng = np.random.default_rng(0)
    a, order = study.start(16, rng), rng.permutation(16)
    b = [a[0][:, order], a[1][order], a[2][order], a[3]]
    assert all(map(np.array_equal, study.matched(a, b), a))
    x, y = rng.standard_normal((5, 64)), np.eye(10)[:5]
    assert float(study.loss(a, x, y)) == float(study.loss(study.matched(a, b), x, y))
    assert study.barrier(np.array([0.0, 3.0, 1.0, 2.0, 0.5])) == 2.5
    assert study.barrier(np.array([2.0, 1.0, 0.0, 4.0])) == 0.0
    middle = study.bend(a, [p + 1 for p in a], a, 0.5)
    assert all(np.allclose(m, p + 0.5) for m, p in zip(middle, a, strict=True))


def test_the_measures_of_minima():
    """Depth is up to where the level reaches the slice's edge; basins of a plane through three minima are counted."""
    study = studies.load(ROOT / "minima_landscapes")
    bowl = np.array([[9.0, 9, 9, 9, 9], [9, 2, 1, 7, 6], [9, 9, 9, 9, 9]])
    assert study.depth(bowl) == 6.0 and study.depth(bowl.T) == 6.0  # 1, over 7, out by the cell of 6 at the edge
    assert study.depth(np.array([[0.0, 5], [5, 5]])) == 0.0  # the lowest cell is at the edge
    deep = np.array([[9.0, 9, 9, 9, 9, 9], [9, 0, 4, 3, 5, 9], [9, 9, 9, 9, 9, 9]])
    assert study.depth(deep) == 9.0  # not that of the second basin
    rng = np.random.default_rng(0)
    a, order = [rng.standard_normal(s) for s in ((4, 3), (1, 3), (3, 2), (1, 2))], [2, 0, 1]
    b = [a[0][:, order], a[1][:, order], a[2][order], a[3]]
    assert all(map(np.array_equal, study.matched(a, b), a))


@pytest.mark.parametrize("case", ["nested", "linked"])
def test_rings_and_what_certifies_them(case):
    """η and ε are what they are said to be; a map that tells the rings apart is certified, and a torn ring is not."""
    rings = studies.load(ROOT / "topological_regulariser").rings
    (a, b), longest, cover = rings.sampled(case, np.random.default_rng(0))
    angles = np.linspace(0, 2 * np.pi, 20_000)
    for which, samples in enumerate((a, b)):
        whole = rings.ring(case, which, angles)
        far = np.array([np.linalg.norm(samples - p, axis=1).min() for p in whole[::10]]).max()
        assert far <= cover + 1e-12
        assert topology.rips(samples, (0,))[0].pairs.max() <= longest + 1e-12
    own = rings.ring(case, 0, angles)
    apart = lambda x: np.array([[np.linalg.norm(own - p, axis=1).min()] for p in x])  # 1-Lipschitz
    gap = topology.separation(np.concatenate([apart(a), apart(b)]), 2)
    assert gap > max(longest, 2 * cover)
    torn = topology.separation(
        np.concatenate([a, b])[:, :1], 2
    )  # a projection, 1-Lipschitz too, under which they overlap
    assert torn <= longest
    weights = [np.diag([3.0, 1.0]), np.zeros(2), np.array([[2.0], [0.0]]), np.zeros(1)]
    assert float(rings.log_lipschitz(weights)) == pytest.approx(np.log(6.0))


def test_features_are_pulled_together_within_classes_only():
    labels = studies.load(ROOT / "topological_regulariser").labels
    rng = np.random.default_rng(0)
    z = rng.standard_normal((labels.CLASSES * labels.LABELS, 5))
    trees = [topology.rips(z[k : k + labels.LABELS], (0,))[0].pairs[:, 1] for k in range(0, len(z), labels.LABELS)]
    assert float(labels.densified(z, 0.7)) == pytest.approx(np.abs(np.concatenate(trees) - 0.7).mean())
