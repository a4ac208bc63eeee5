"""The smallest part of a random program that still fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from autograd.tensor import DiffTensor
from autograd.testing.programs import Name, Program, Rows, Step, inexact


def smaller(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that still fails, from which no output can be taken and no step replaced by its values."""
    changed = True
    while changed:
        changed = False
        for candidate in _reductions(program):
            if fails(candidate):
                program, changed = candidate, True
                break
    return program


def _reductions(program: Program) -> Iterator[Program]:
    if (
        len(program.steps) == 1 and program.steps[0].op == "vmap"
    ):  # what was mapped: on one example, or its body made smaller
        (step,) = program.steps
        body = step.params["body"]
        yield Program(
            {k: a[0] for k, a in zip(body.leaves, program.leaves.values(), strict=True)}, body.steps, body.outputs
        )
        for small in _reductions(body):
            if set(small.leaves) <= set(program.leaves):
                yield Program(
                    {k: program.leaves[k] for k in small.leaves},
                    (Step(small.outputs, "vmap", tuple(map(Name, small.leaves)), {"body": small}),),
                    small.outputs,
                )
        return
    for name in program.outputs:
        others = tuple(n for n in program.outputs if n != name)
        if others:
            yield _pruned(replace(program, outputs=others))
        for step in program.steps:
            if name in step.names:  # what it is computed from, in its place
                inside = tuple(dict.fromkeys(x for x in step.inputs if isinstance(x, Name) and x not in program.leaves))
                if inside:
                    yield _pruned(replace(program, outputs=(*others, *(x for x in inside if x not in others))))
    made = dict(program.leaves)
    library = Rows()
    values: list[tuple] = []
    for step in program.steps:
        found = library.step(step, [made[x] if isinstance(x, Name) else x for x in step.inputs])
        values.append(tuple(v.raw if isinstance(v, DiffTensor) else v for v in found))
        made.update(zip(step.names, values[-1], strict=True))
    for k in reversed(range(len(program.steps))):
        step, rest = program.steps[k], [*program.steps[:k], *program.steps[k + 1 :]]
        if not set(step.names).isdisjoint(program.outputs):
            continue
        leaves = dict(program.leaves)
        for name, v in zip(step.names, values[k], strict=True):
            if inexact(v):
                leaves[name] = v
            else:
                rest = [
                    replace(s, inputs=tuple(v if isinstance(x, Name) and x == name else x for x in s.inputs))
                    for s in rest
                ]
        yield _pruned(replace(program, leaves=leaves, steps=tuple(rest)))


def _pruned(program: Program) -> Program:
    """Without the steps and leaves that no output needs."""
    needed, steps = set(program.outputs), []
    for step in reversed(program.steps):
        if not needed.isdisjoint(step.names):
            steps.append(step)
            needed |= {x for x in step.inputs if isinstance(x, Name)}
    return replace(
        program,
        leaves={k: v for k, v in program.leaves.items() if k in needed} or program.leaves,
        steps=tuple(steps[::-1]),
    )
