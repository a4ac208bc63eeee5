"""LLVM: text in, addresses of functions out. Object code is kept on disk, so that the next process does not compile again."""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autograd.atomic import write_atomically

CALL = re.compile(r"call (?:contract |reassoc )*(\w+) (@llvm\.[\w.]+)\(([^)]*)\)")


@functools.cache
def available() -> bool:
    """Whether llvmlite can be imported."""
    try:
        import llvmlite.binding  # noqa: F401
    except ImportError:
        return False
    return True


@functools.cache
def _host() -> tuple[str, str, str]:
    """The processor, its features, and what object code depends on beside the text."""
    import llvmlite
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return cpu, features, f"{llvmlite.__version__} {llvm.llvm_version_info} {cpu} {features}"


@functools.cache
def vector_bytes() -> int:
    """How wide this machine's vectors are."""
    features = set(_host()[1].split(","))
    return 64 if "+avx512f" in features else 32 if "+avx" in features else 16


def _machine() -> Any:
    """A machine to compile for; an engine that is given one owns it, and frees it with itself."""
    import llvmlite.binding as llvm

    cpu, features, _ = _host()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="jitdefault")


def folder() -> Path:
    """Where object code is kept: ``$HAMMER_CACHE``, or hammer's folder among the user's caches."""
    given = os.environ.get("HAMMER_CACHE")
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/hammer"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "hammer"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hammer"


_KEPT = 256
"""How many programs the cache on disk holds; the ones used longest ago go first."""


class Library:
    """A compiled module.

    Args:
        text: of the module, in LLVM's language, without declarations of intrinsics.

    Attributes:
        compiled: whether it was compiled now; else it came from the disk.
    """

    def __init__(self, text: str):
        import llvmlite.binding as llvm

        _, _, version = _host()
        text = "\n".join([text, *_declarations(text)])
        digest = hashlib.blake2b(f"{version}\n{text}".encode(), digest_size=20).hexdigest()
        path = folder() / f"{digest}.o"
        code = _read(path)
        self.compiled = code is None
        if code is None:
            code = _compiled(text)
            _write(path, code)
        empty = llvm.parse_assembly("")
        self._engine = llvm.create_mcjit_compiler(empty, _machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Of a function of the module."""
        return self._engine.get_function_address(name)  # type: ignore[no-any-return]


def _declarations(text: str) -> Iterable[str]:
    found = {}
    for kind, name, arguments in CALL.findall(text):
        found[name] = f"declare {kind} {name}({', '.join(a.split()[0] for a in arguments.split(', '))})"
    return found.values()


def _compiled(text: str) -> bytes:
    import llvmlite.binding as llvm

    machine, module = _machine(), llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = options.loop_unrolling = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return machine.emit_object(module)  # type: ignore[no-any-return]


def _read(path: Path) -> bytes | None:
    """Object code that was written whole: its digest stands before it."""
    try:
        data = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    return data[20:] if hashlib.blake2b(data[20:], digest_size=20).digest() == data[:20] else None


def _write(path: Path, code: bytes) -> None:
    """Keep object code; without a folder to write to it is compiled again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, hashlib.blake2b(code, digest_size=20).digest() + code)
        kept = sorted(path.parent.glob("*.o"), key=lambda p: p.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return
