"""What became of the checks of a row, and which of them a row does not go through."""

from dataclasses import dataclass, field

from ..batching import rule_of
from ..table import Row
from .calls import EXEMPT, Call


@dataclass
class Report:
    """What ``check_row`` did with a row.

    Attributes:
        row: its name.
        calls: how many drawn calls went through all their checks.
        ran: how many times each check of ``CHECKS`` was made.
        exempt: the checks that the row does not go through, and why.
        seconds: how long it took.
        failed, failing: the check that failed, if one did, and the smallest call found that fails it.
    """

    row: str
    calls: int = 0
    ran: dict[str, int] = field(default_factory=dict)
    exempt: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str | None = None
    failing: Call | None = None

    @property
    def lacking(self) -> list[str]:
        """The checks that were neither made nor have a reason not to be."""
        return [check for check, times in self.ran.items() if not times and check not in self.exempt]


def exemptions(row: Row) -> dict[str, str]:
    """The checks that a row does not go through, and why: what is stated in ``calls.EXEMPT``, and what has no subject."""
    found = {check: reason for (name, check), reason in EXEMPT.items() if name == row.name}
    if not any(domain.kind == "inexact" for domain in row.domain):
        found |= dict.fromkeys(("symbolic", "precision", "float16"), "it takes no floating-point numbers")
    if not row.complex:
        found["complex"] = "it takes no complex numbers"
    if rule_of(row) is None:
        found["batching"] = "it has no batching rule: vmap runs it example by example"
    if row.differentiable == 0:
        found |= dict.fromkeys(
            ("derivatives", "complex", "retention", "rules on device", "reading"), "it has no derivative"
        )
    return found
