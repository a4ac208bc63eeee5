"""Language modelling: texts, vocabularies, and sequences of word numbers with the next word as target."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from autograd.atomic import write_atomically
from autograd.train import ArrayDataset, DataError
from autograd.train.config import Config

UNKNOWN = "<UNK>"
_WORD = re.compile(r"\w+|[^\w\s]|\n")
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def in_words(n: int) -> str:
    """A number from 0 to 999 in English words."""
    ones, tens = _ONES.split(), _TENS.split()
    if n < 20:
        return ones[n]
    if n < 100:
        return tens[n // 10 - 2] + (f" {ones[n % 10]}" if n % 10 else "")
    return f"{ones[n // 100]} hundred" + (f" and {in_words(n % 100)}" if n % 100 else "")


def number_words(sums: int = 3000, *, seed: int = 0) -> str:
    """Sums of numbers below 500 in English words, one a line: a small language with grammar and some arithmetic."""
    pairs = np.random.default_rng(np.random.SeedSequence(seed)).integers(0, 500, (sums, 2))
    return "\n".join(f"{in_words(a)} plus {in_words(b)} is {in_words(a + b)}" for a, b in pairs.tolist())


def read(path: Path) -> str:
    """A text file in UTF-8."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None


def words(text: str) -> list[str]:
    """Words, marks and ends of lines, in small letters."""
    return _WORD.findall(text.lower())


def vocabulary(train: list[str], threshold: int, path: Path | None) -> dict[str, int]:
    """The number of each word: read from ``path`` if that file is there, else made of words that occur ``threshold`` times or
    more in the training part (the most frequent first), and written there."""
    if path is not None and path.exists():
        try:
            saved = json.loads(path.read_text("utf-8"))
            known = saved["word_to_idx"]
            if sorted(known.values()) == list(range(len(known))) and UNKNOWN in known:
                return dict(known)
            raise ValueError(f"word_to_idx must number the words from 0, with {UNKNOWN} among them")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: is no vocabulary in JSON ({type(error).__name__}: {error!s:.80}); pickles are never read: delete it, and it "
                "is made again"
            ) from None
    counts = Counter(train)
    kept = [UNKNOWN, *(w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= threshold)]
    known = {word: i for i, word in enumerate(kept)}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            path, json.dumps({"word_to_idx": known, "freq_threshold": threshold}, ensure_ascii=False) + "\n"
        )
    return known


def sequences(text: str, config: Config, name: str) -> tuple[Any, Any, dict[str, int]]:
    """A text as training and validation data and its vocabulary: the last ``val_split`` of the text validates.

    An example is (words, next words), both int64 (sequence_length,); a rest that fills no sequence is left out.
    """
    found, length = words(text), config.data.sequence_length
    cut = len(found) - round(len(found) * config.data.val_split)
    path = config.data.vocab_path
    known = vocabulary(found[:cut], config.data.freq_threshold, None if path is None else Path(path))
    numbers = np.array([known.get(w, known[UNKNOWN]) for w in found], np.int64)

    def examples(part: np.ndarray, which: str) -> ArrayDataset:
        n = (len(part) - 1) // length
        if n < 1:
            raise DataError(
                f"data.sequence_length: {name} has {len(part)} words to {which}, too few for one sequence of {length} and a next word"
            )
        return ArrayDataset(part[: n * length].reshape(n, length), part[1 : n * length + 1].reshape(n, length))

    val = examples(numbers[cut:], "validate") if config.data.val_split else None
    return examples(numbers[:cut], "train on"), val, known
