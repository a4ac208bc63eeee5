"""What importing loads, and what it says when another package of the same name is in the way."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import autograd
import hammer

HEAVY = (
    "cupy",
    "mpi4py",
    "gudhi",
    "matplotlib",
    "torch",
    "jax",
    "sklearn",
    "pandas",
    "rich",
    "mlxtend",
    "hypothesis",
    "scipy.stats",
    "plotly",
)


def run(code, cwd=None, path=()):
    """Run code in a fresh interpreter, with folders put before everything else on its path."""
    setup = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}; "
    return subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, cwd=cwd, timeout=60, check=False
    )


def test_importing_loads_nothing_heavy():
    done = run(f"import autograd, hammer, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["testing", "nn", "optim", "gradients"])
def test_subpackages_are_loaded_when_first_used(name):
    done = run(
        f"import autograd, sys; assert 'autograd.{name}' not in sys.modules; autograd.{name}; assert 'autograd.{name}' in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = autograd.nonsense


def test_the_checker_works_without_hypothesis():
    code = (
        "sys.modules['hypothesis'] = None; from autograd.testing import check_grads; from autograd import ops; "
        "check_grads(lambda x: ops.sin(x) * x, 1.5); import autograd.testing as t\n"
        "try: t.check_row\n"
        "except ImportError as e: print(e)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert 'pip install "hammer-grad[test]"' in done.stdout


def copied(source, target):
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "testing", "nn"))


def test_files_of_hips_autograd_beside_ours_are_refused(tmp_path):
    copied(Path(autograd.__file__).parent, tmp_path / "autograd")
    assert run("import autograd; print(autograd.__file__)", path=[tmp_path]).stdout.startswith(str(tmp_path))
    (tmp_path / "autograd" / "wrap_util.py").write_text("", encoding="utf-8")
    done = run("import autograd", path=[tmp_path])
    assert done.returncode == 1
    assert "ImportError" in done.stderr and "HIPS autograd (wrap_util.py)" in done.stderr
    assert "pip uninstall -y autograd && pip install --force-reinstall --no-deps hammer-grad" in done.stderr


def test_hammer_refuses_an_autograd_that_is_not_ours(tmp_path):
    copied(Path(hammer.__file__).parent, tmp_path / "hammer")
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_text("__version__ = '1.8'\n", encoding="utf-8")
    done = run("import hammer", path=[tmp_path])
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "autograd" in done.stderr and "pip uninstall -y autograd" in done.stderr
