"""``hammer check``: property tests of derivatives, of the whole op table or of a function of yours.

How the parts meet: ``table`` runs the checks of ``autograd.testing`` on every row, in worker processes, and ``show`` draws
their live table; ``report`` writes it down. ``arguments`` turns ``--shape`` and ``--domain`` into calls of a function;
``function`` draws them, checks the function's derivatives and shrinks what fails; ``counterexample`` finds the operation
that is wrong and writes the test to paste. ``command`` is what the command line calls.

It needs hypothesis, which the extras ``lab`` and ``test`` install.
"""
