"""What was found wrong, and how much was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """Something that must be true and is not.

    Attributes:
        file: the result file.
        key: where in it, such as ``episodes[3].query``.
        what: what is wrong.
    """

    file: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {f'{self.key}: ' if self.key else ''}{self.what}"


@dataclass
class Findings:
    """Of one file or several.

    Attributes:
        file: the file that is being looked at.
        checks: how many things were looked at.
    """

    file: str = ""
    checks: int = 0
    found: list[Finding] = field(default_factory=list)

    def check(self, fine: object, key: str, what: str) -> bool:
        """Count a check; ``what`` is the finding where it fails. Returns whether it held."""
        self.checks += 1
        if not fine:
            self.found.append(Finding(self.file, key, what))
        return bool(fine)

    def equal(self, value: object, expected: object, key: str, of: str) -> bool:
        """Check ``value == expected``; ``of`` says what is expected."""
        return self.check(value == expected, key, f"{_short(value)}, but {of} is {_short(expected)}")

    def close(self, value: float, expected: float, tolerance: float, key: str, of: str) -> bool:
        """Check that two numbers are equal but for rounding; ``of`` says whose the expected one is."""
        return self.check(abs(value - expected) <= tolerance, key, f"{value}, but {of} is {expected}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
