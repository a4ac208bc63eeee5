#!/usr/bin/env python3
"""Everything a fresh machine needs: `python3 make.py COMMAND`, with Python 3.11 to 3.13 and nothing else.

    python3 make.py compare [ARGS]   compare optimizers on real data and write a report (`hammer compare ARGS`)
    python3 make.py test [ARGS]      run the tests (`pytest ARGS`); with --peers also those against PyTorch and JAX
    python3 make.py check            lint, format, types and the import contract
    python3 make.py hammer ARGS      any other hammer command
    python3 make.py setup            only create the environment
    python3 make.py lock             pin the dependencies anew (needs uv)

The first use creates `.venv` beside this file from requirements.txt, where every package is pinned with its hashes.
`HAMMER_VENV` names another place for it. Uses the standard library only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("HAMMER_VENV") or ROOT / ".venv").absolute()
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PEERS = ["torch==2.13.0", "jax==0.10.2", "statsmodels==0.15.0"]


def stop(message: str) -> None:
    sys.exit(f"make.py: {message}")


def interpreter() -> str:
    """This Python if it is 3.11 to 3.13, else the newest such one on PATH."""
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return sys.executable
    for minor in (13, 12, 11):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    stop(f"Python 3.11, 3.12 or 3.13 is needed; this is {sys.version.split()[0]} and no other one is on PATH")
    raise AssertionError


def run(*command: object, **options: object) -> int:
    return subprocess.run([str(part) for part in command], cwd=ROOT, **options).returncode  # type: ignore[call-overload]


def setup(peers: bool = False) -> None:
    """Create the environment, or bring it up to date if what it was made from has changed."""
    wanted = hashlib.sha256(
        (ROOT / "requirements.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    ).hexdigest()
    stamp = VENV / "hammer-installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"make.py: creating the environment in {VENV} (once; about a minute)", flush=True)
        if run(interpreter(), "-m", "venv", "--clear", VENV):
            stop("could not create a virtual environment; on Debian and Ubuntu: apt install python3-venv")
        pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        if run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", "requirements.txt"):
            stop("pip could not install requirements.txt; its message is above")
        if run(*pip, "--no-deps", "--no-build-isolation", "--editable", "."):
            stop("pip could not install this project; its message is above")
        stamp.write_text(wanted)
    if peers and run(PYTHON, "-c", "import torch, jax, statsmodels", stderr=subprocess.DEVNULL):
        print(f"make.py: installing {' '.join(PEERS)}", flush=True)
        if run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS):
            stop("pip could not install the peers; the tests run without them: python3 make.py test")


def test(args: list[str]) -> int:
    peers = "--peers" in args
    setup(peers)
    rest = [a for a in args if a != "--peers"]
    return run(PYTHON, "-m", "pytest", *(rest or ["-n", "auto"]))


def check() -> int:
    setup()
    steps = [
        ("ruff", "check", "--no-cache", "."),  # a cached verdict forgets that a new module moves imports
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("importlinter.cli", "lint"),
    ]
    for module, *args in steps:
        print(f"make.py: {module} {' '.join(args)}", flush=True)
        command = [PYTHON, "-m", module, *args]
        if module == "importlinter.cli":
            command = [
                PYTHON,
                "-c",
                "import sys; from importlinter.cli import lint_imports_command as f; sys.argv[0] = 'lint-imports'; f()",
            ]
        if run(*command):
            return 1
    return 0


def lock() -> int:
    """Pin every dependency with hashes, for all supported Pythons, without naming where packages come from."""
    uv = shutil.which("uv")
    if uv is None:
        stop("lock needs uv: pip install uv")
    extras = [part for extra in ("lab", "compile", "topology", "figures", "test", "dev") for part in ("--extra", extra)]
    return run(
        uv, "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header",
        "--quiet", *extras, "pyproject.toml", "-o", "requirements.txt",
    )  # fmt: skip


def main(argv: list[str]) -> int:
    command, args = (argv[0], argv[1:]) if argv else ("help", [])
    if command in ("compare", "hammer"):
        setup()
        return run(PYTHON, "-m", "hammer.lab", *(["compare"] if command == "compare" else []), *args)
    if command == "test":
        return test(args)
    if command == "check":
        return check()
    if command == "setup":
        setup("--peers" in args)
        return 0
    if command == "lock":
        return lock()
    print(__doc__)
    return 0 if command in ("help", "--help", "-h") else 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
