"""Every problem starts, is a function of its seed, and is learned; and what its data is made of."""

import numpy as np
import pytest

from hammer.lab import datasets, problems, trial
from hammer.lab.trial import TrialSpec

FASTER = {"image_factorisation": 0.03}


@pytest.mark.parametrize("name", problems.names())
def test_a_problem_is_learned(name: str) -> None:
    problem = problems.get(name)
    runs = [
        trial.run(TrialSpec(name, "adam", {"lr": FASTER.get(name, 0.01)}, 0, index, 20, 20, problem.dtype))
        for index in (0, 1)
    ]
    (first, arrays), (second, _) = runs
    assert first["status"] == "finished" and first["bits"] != second["bits"]
    assert arrays["train_loss"].dtype == problem.dtype
    judged = arrays["train_loss"] if name == "modular_addition" else arrays["loss"]  # it learns by heart first
    assert judged[-1] < judged[0]
    assert np.isfinite(arrays["metric"]).all()


def test_patches_to_judge_by_are_from_elsewhere() -> None:
    parts = datasets.textures()
    assert parts.x.shape[1:] == (1, 16, 16) and set(parts.y) == set(parts.y_held) == set(range(5))
    np.testing.assert_allclose(parts.x.mean(axis=(1, 2, 3)), 0.0, atol=1e-12)
    train = {patch.tobytes() for patch in parts.x}
    assert not any(patch.tobytes() in train for patch in parts.x_held)


def test_the_text_is_frozen_and_its_windows_follow_each_other() -> None:
    text, alphabet = datasets.sonnets()
    assert (len(text), len(alphabet)) == (95609, 62)
    assert "".join(alphabet[i] for i in text[:41]).endswith("From fairest creatures we desire incre")
    parts = datasets.windows(text, 16, held=0.05)
    np.testing.assert_array_equal(parts.x[:, 1:], parts.y[:, :-1])
    np.testing.assert_array_equal(parts.x[1:, 0], parts.y[:-1, -1])
    assert parts.x.size + parts.x_held.size <= len(text)


def test_images_are_made_smaller_by_means_and_cut_into_pixels() -> None:
    image = np.arange(20.0).reshape(4, 5)
    np.testing.assert_allclose(datasets.reduced(image, 2), [[3.0, 5.0], [13.0, 15.0]])
    places, values = datasets.pixels(image)
    assert all(image[i, j] == v for (i, j), v in zip(places, values[:, 0], strict=True))
