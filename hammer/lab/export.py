"""``hammer export``: a report and the records of its trials as one archive, which another machine can ``hammer reproduce``."""

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path

from autograd.atomic import write_atomically

from . import environment
from .errors import UsageError, unknown
from .report import text
from .runs import MANIFEST, open_run
from .store import Store

FILES = (
    "config.yaml", "environment.json", "trials.csv", "curves.npz", "canary.npz", "results.json", "summary.md", "ranking.csv",
    "pairs.csv", "targets.csv", "costs.csv", "tables.tex", "report.svg", "index.html",
)  # fmt: skip
"""A report's files."""


def export(arguments: argparse.Namespace) -> int:
    """Write the archive of a report; returns the exit code."""
    folder = next(
        (p for p in (Path(arguments.run), Path("reports") / arguments.run) if (p / "trials.csv").exists()), None
    )
    if folder is None:
        there = sorted(p.parent.name for p in Path("reports").glob("*/trials.csv"))
        raise UsageError(f"{arguments.run}: not a report's folder; {unknown('report', arguments.run, there)}")
    keys = open_run(str(folder)).keys  # reads what `hammer reproduce` will need
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    store = Store(arguments.store)
    records = [found[0] for key in keys if (found := store.load(key)) is not None]
    if records:
        files["records.jsonl"] = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
    made_with = json.loads(files["environment.json"]).get("diff")
    if made_with is not None and made_with == environment.git_diff_hash():
        files["source.diff"] = environment.git_diff()
    path = arguments.out or Path(f"{folder.resolve().name}.zip")
    data = archive(files)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise UsageError(f"--out: cannot write {path}: {error.strerror}") from None
    for line in store.complaints:
        print(f"skipped: {line}")
    if made_with is not None and "source.diff" not in files:
        print("the source has changed since the run: the patch that it was made with is not in the archive")
    print(
        f"{path}: {text.count(len(keys), 'trial')} ({text.count(len(records), 'record')} from {store.folder}), {len(data) / 1e6:.1f} MB. "
        f"Elsewhere: hammer reproduce {path.name}"
    )
    return 0


def archive(files: dict[str, bytes]) -> bytes:
    """A zip of files with a manifest of their SHA-256; equal files give equal bytes."""
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = json.dumps({"made_by": "hammer export", "files": listed}, indent=1) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in {MANIFEST: manifest.encode(), **files}.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            out.writestr(entry, content)
    return buffer.getvalue()
