"""Keep track of names that are taken, and find new ones."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["TakenNames", "near"]


def near(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about a name that is unknown: the known ones that are most like it, or nothing."""
    import difflib  # it takes milliseconds, and only messages need it

    known = dict.fromkeys(names)
    parts = [known_name for known_name in known if name and name.lower() in known_name.lower()]
    found = list(dict.fromkeys([*difflib.get_close_matches(name, known, 3, 0.5), *parts]))[:3]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


class TakenNames(set[str]):
    """A set of names, of which none is ever given back."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__(names)
        self._last: dict[str, int] = {}  # the highest number that was tried behind a name

    def unique(self, name: str) -> str:
        """Return ``name`` if it is free, else ``name_1``, ``name_2`` and so on. This does not take the name."""
        result, i = name, self._last.get(name, 0)
        while result in self:
            i += 1
            result = f"{name}_{i}"
        self._last[name] = max(i - 1, 0)
        return result

    def take(self, name: str) -> str:
        """Return a free name, as ``unique`` does, and take it."""
        result = self.unique(name)
        self.add(result)
        return result
