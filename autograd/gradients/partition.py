"""``partition``: another transform for each group of parameters."""

from collections.abc import Hashable, Mapping
from typing import Any

import optree

from .base import GradientTransform, Link, link_of, list_spec


class _Partition(Link):
    def __init__(self, labels: Any, links: dict[Hashable, Link]):
        self.links = links
        self.undone = all(link.undone for link in links.values())
        self.of = labels if callable(labels) else None
        if self.of is None:
            flat, self.spec = optree.tree_flatten(labels)
            self.fixed = self._divide(flat)
            self.count = len(flat)

    def _divide(self, labels: list) -> dict[Hashable, tuple[list[int], Any]]:
        """label -> (places, structure)."""
        unknown = set(labels) - set(self.links)
        if unknown:
            raise ValueError(
                f"partition: no transform for the label {min(map(repr, unknown))}; there are {', '.join(map(repr, self.links))}"
            )
        places = {label: [i for i, at in enumerate(labels) if at == label] for label in self.links}
        return {label: (at, list_spec(at)) for label, at in places.items()}

    def _groups(self, params: list) -> dict[Hashable, tuple[list[int], Any]]:
        if self.of is None:
            return self.fixed
        first = next(iter(self.links))  # for what is not there
        return self._divide([first if p is None else self.of(p) for p in params])

    def start(self, params: list, spec: Any) -> dict:
        if self.of is None and (len(params) != self.count or spec.paths() != self.spec.paths()):
            raise ValueError(
                f"partition: the labels have the structure {self.spec}, the parameters {spec}; give every parameter a label"
            )
        return {
            label: self.links[label].start([params[i] for i in places], part)
            for label, (places, part) in self._groups(params).items()
        }

    def step(self, grads: list, state: Any, params: list, spec: Any, apply: bool = False) -> tuple[list, Any]:
        updates = list(grads)
        for label, (places, part) in self._groups(params).items():
            some, state[label] = self.links[label].step(
                [grads[i] for i in places], state[label], [params[i] for i in places], part, apply
            )
            for i, u in zip(places, some, strict=True):
                updates[i] = u
        return updates, state

    def evaluation(self, state: Any, params: list) -> list:
        found = list(params)
        for label, (places, _) in self._groups(params).items():
            some = self.links[label].evaluation(state[label], [params[i] for i in places])
            for i, p in zip(places, some, strict=True):
                found[i] = p
        return found


def partition(transforms: Mapping[Hashable, GradientTransform], labels: Any) -> GradientTransform:
    """Another transform for each group of parameters: no decay for biases, a smaller rate for a pretrained part.

    Args:
        transforms: label -> transform; each sees the list of its parameters.
        labels: a tree with the structure of the parameters and a label at every leaf; or a function that gives the label
            of a parameter's array, such as ``lambda p: "matrix" if p.ndim == 2 else "other"``.
    """
    return _Partition(labels, {label: link_of(t) for label, t in transforms.items()}).transform()
