"""Datasets: order by seed and epoch, any number of workers, dead workers, splits, balance, images, bad rows."""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograd.train import ArrayDataset, DataError, ImageFolder, Loader, Subset, as_loader, collate, split
from autograd.train.workers import WorkerError


class Noisy:
    """An example depends on its stream; index 3 can be made to fail, 5 to kill its worker."""

    def __init__(self, n: int = 23, fail: bool = False, kill: str | None = None):
        self.n, self.fail, self.kill = n, fail, kill

    def __len__(self) -> int:
        return self.n

    def example(self, i: int, rng: np.random.Generator | None) -> tuple:
        if self.fail and i == 3:
            raise DataError("list.csv, line 5: no such image")
        if self.kill is not None and i == 5:
            try:
                if self.kill != "always":
                    os.close(os.open(self.kill, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass  # killed once already
        return np.array([i, 0.0 if rng is None else rng.random()]), i


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(
        all(np.array_equal(p, q) for p, q in zip(x, y, strict=True)) for x, y in zip(a, b, strict=True)
    )


def test_order_is_a_function_of_seed_and_epoch() -> None:
    data = ArrayDataset(np.arange(50))
    a, b = (Loader(data, 7, shuffle=True, seed=1) for _ in range(2))
    assert a.order(3).tolist() == b.order(3).tolist() == sorted(range(50), key=a.order(3).tolist().index)
    assert sorted(a.order(3)) == list(range(50))
    assert a.order(3).tolist() != a.order(4).tolist()
    assert a.order(3).tolist() != Loader(data, 7, shuffle=True, seed=2).order(3).tolist()
    assert Loader(data, 7).order(9).tolist() == list(range(50))


def test_an_epoch_goes_on_from_any_batch() -> None:
    loader = Loader(Noisy(), 4, shuffle=True, seed=0)
    whole = list(loader.batches(2))
    assert [len(y) for _, y in whole] == [4, 4, 4, 4, 4, 3] and len(loader) == 6 and loader.examples == 23
    assert same(list(loader.batches(2, 4)), whole[4:])
    assert len(Loader(Noisy(), 4, drop_last=True)) == 5 and Loader(Noisy(), 4, drop_last=True).examples == 20


def test_augmentation_has_a_stream_for_each_place_of_each_epoch() -> None:
    loader = Loader(Noisy(), 4, shuffle=True)
    first, second = (np.concatenate([x[:, 1] for x, _ in loader.batches(e)]) for e in (0, 1))
    assert len({*first, *second}) == 46
    assert not Loader(Noisy(), 23).batches().__next__()[0][:, 1].any()  # validation: none


def test_any_number_of_workers_gives_the_same_batches_and_survives_a_death(tmp_path: Path) -> None:
    plain = [list(Loader(Noisy(), 4, shuffle=True, seed=5).batches(e)) for e in (0, 1)]
    loader = Loader(Noisy(kill=str(tmp_path / "killed")), 4, shuffle=True, seed=5, workers=2)
    with pytest.warns(RuntimeWarning, match="a worker process died") as told:
        assert same(list(loader.batches(0)), plain[0])
    assert len(told) == 1 and (tmp_path / "killed").exists()
    next(loader.batches(0))  # left half-way
    os.kill(loader._pool.pids[0], signal.SIGKILL)
    with warnings.catch_warnings():  # a second death is survived in silence
        warnings.simplefilter("error")
        assert same(list(loader.batches(1, 2)), plain[1][2:])
    loader.close()


def test_a_batch_that_kills_every_worker_is_named() -> None:
    loader = Loader(Noisy(kill="always"), 4, workers=1)
    with pytest.warns(RuntimeWarning), pytest.raises(WorkerError, match=r"3 worker processes died .* made batch 1"):
        list(loader.batches())
    loader.close()


def test_an_error_in_a_worker_is_raised_where_the_batch_is_asked_for() -> None:
    loader = Loader(Noisy(fail=True), 2, workers=1)
    batches = loader.batches()
    next(batches)
    with pytest.raises(WorkerError, match=r"list\.csv, line 5: no such image"):
        next(batches)
    loader.close()
    with pytest.raises(DataError, match="can be pickled"):
        Loader(ArrayDataset(np.arange(3)), collate=lambda x: x, workers=1).batches()


def test_split_by_seed() -> None:
    data = ArrayDataset(np.arange(100))
    train, val = split(data, 0.2, seed=4)
    assert (len(train), len(val)) == (80, 20)
    assert sorted([*train.indices, *val.indices]) == list(range(100))
    assert val.indices.tolist() == split(data, 0.2, seed=4)[1].indices.tolist()
    assert val.indices.tolist() != split(data, 0.2, seed=5)[1].indices.tolist()
    with pytest.raises(DataError, match="leaves a part empty"):
        split(ArrayDataset(np.arange(2)), 0.1)


def test_stratified_split_keeps_shares() -> None:
    labels = np.repeat([0, 1, 2, 3], [60, 25, 12, 3])
    train, val = split(ArrayDataset(np.zeros(100), labels), 0.25, seed=1, stratify=True)
    assert len(val) == 25
    for c, n in enumerate(np.bincount(labels)):
        assert abs((val.targets == c).sum() - n / 4) < 1
    assert sorted([*train.indices, *val.indices]) == list(range(100))
    with pytest.raises(DataError, match="targets must be classes"):
        split(ArrayDataset(np.zeros(100)), 0.25, stratify=True)


def test_balance_draws_every_class_equally() -> None:
    labels = np.repeat([0, 1], [1900, 100])
    loader = Loader(ArrayDataset(labels), 500, balance=True, seed=0)
    drawn = np.concatenate([y for (y,) in loader.batches(0)])
    assert len(drawn) == 2000
    assert abs(drawn.mean() - 0.5) < 0.06  # five standard deviations
    assert loader.order(0).tolist() != loader.order(1).tolist()


def test_subsets_and_collation() -> None:
    data = ArrayDataset(np.arange(10), np.arange(10) * 2)
    sub = Subset(Subset(data, [9, 3, 5]), [2, 0])
    assert sub[0] == (5, 10) and [a.tolist() for a in sub.batch(np.array([1, 0]))] == [[9, 5], [18, 10]]
    batch = collate([({"a": np.ones(2)}, "one", 1), ({"a": np.zeros(2)}, "two", 2)])
    assert batch[0]["a"].shape == (2, 2) and batch[1] == ["one", "two"] and batch[2].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"example 1 of the batch has shape \(3,\), the first \(2,\)"):
        collate([np.ones(2), np.ones(3)])
    with pytest.raises(DataError, match="one length"):
        ArrayDataset(np.ones(2), np.ones(3))
    with pytest.raises(DataError, match="indices must be from 0 to 9"):
        Subset(data, [10])


def test_batches_stay_in_their_array_library() -> None:
    strict = pytest.importorskip("array_api_strict")
    data = ArrayDataset(strict.arange(6), strict.ones((6, 2)))
    i, x = next(Loader(data, 4, shuffle=True).batches())
    assert type(i) is type(x) is type(strict.ones(1)) and x.shape == (4, 2)


def test_what_is_taken_as_data() -> None:
    assert [len(b[0]) for b in as_loader((np.ones(5), np.ones(5)), 2, shuffle=True, seed=0).batches()] == [2, 2, 1]
    lists = as_loader([(np.ones(2), np.zeros(2)), (np.ones(1), np.zeros(1))], 2, shuffle=True, seed=0)
    assert [len(x) for x, _ in lists.batches(0, 1)] == [1]
    with pytest.raises(TypeError, match="used up after one epoch"):
        as_loader(iter([1]), 2, shuffle=False, seed=0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    for i, name in enumerate(("cat1", "dog1", "cat2")):
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[:, :, 0] = np.linspace(0, 255, 30)
        pixels[:, :, 1] = 100 * i
        image.fromarray(pixels).save(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "list.csv").write_text('image,label\ncat1.png,cat\ndog1.png,dog\n\ncat2.png,"cat"\n', "utf-8")
    return tmp_path


def folder(where: Path, **options: Any) -> ImageFolder:
    return ImageFolder(where / "pictures", where / "list.csv", **{"size": 16, "resize": 20} | options)


def test_images(pictures: Path) -> None:
    data = folder(pictures)
    assert len(data) == 3 and data.classes == ["cat", "dog"] and data.targets.tolist() == [0, 1, 0]
    x, y = data[1]
    assert x.shape == (3, 16, 16) and x.dtype == np.float32 and y == 1
    assert np.allclose(x[1], 100 / 255) and x.min() >= 0 and x.max() <= 1 and (np.diff(x[0, 0]) > 0).all()
    assert folder(pictures, grey=True)[0][0].shape == (1, 16, 16)
    assert np.allclose(folder(pictures, mean=[0, 0.5, 0], std=[1, 2, 1])[1][0][1], (100 / 255 - 0.5) / 2, atol=1e-6)
    drawn = [data.example(0, np.random.default_rng(s))[0] for s in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    mirrored = [folder(pictures, flip=True).example(0, np.random.default_rng(s))[0][0, 0] for s in range(20)]
    assert 0 < sum(row[0] > row[-1] for row in mirrored) < 20


def test_images_through_a_split_and_workers(pictures: Path) -> None:
    train, val = split(folder(pictures), 1 / 3, seed=0)
    loaders = [Loader(train, 1, shuffle=True, seed=3, workers=w) for w in (0, 1)]
    assert same(*[list(loader.batches(0)) for loader in loaders])
    assert next(Loader(val, 1).batches())[0].shape == (1, 3, 16, 16)
    loaders[1].close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.csv: is empty"),
        ("image\n", "line 1: two columns are needed"),
        ("image,label\n", "no rows after the first line"),
        ("image,label\ncat1.png,cat\nnone.png,cat\n", "list.csv, line 3: there is no image 'none.png'"),
        ("image,label\ncat1.png,a cat, black\n", "line 2: 3 fields where the first line has 2"),
        ("image,label\ncat1.png,\n", "line 2: the target is empty"),
        ("image,label\n,cat\n", "line 2: the image's name is empty"),
        ('image,label\ncat1.png,"cat\n', "line 2: unexpected end of data"),
        ("image,label\ncat1.png,cat\xff\n", "is not UTF-8 text"),
    ],
)
def test_bad_rows_are_named(pictures: Path, text: str, message: str) -> None:
    (pictures / "list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        folder(pictures)


def test_bad_targets_columns_and_images_are_named(pictures: Path) -> None:
    with pytest.raises(DataError, match="line 2: the target 'cat' is not a number"):
        folder(pictures, kind="number")
    with pytest.raises(DataError, match="line 3: the class 'dog' is none of cat"):
        folder(pictures, classes=["cat"])
    with pytest.raises(DataError, match="no column 'caption'; there are image, label"):
        folder(pictures, target="caption")
    with pytest.raises(DataError, match=r"nowhere: No such file"):
        ImageFolder(pictures / "nowhere", pictures / "list.csv")
    (pictures / "pictures" / "dog1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match=r"list\.csv, line 3: .*dog1\.png is no readable image"):
        folder(pictures)[1]
    (pictures / "list.csv").write_text("image,label\n" + "x.png,cat\n" * 9, "utf-8")
    with pytest.raises(DataError, match="and 4 more"):
        folder(pictures)
