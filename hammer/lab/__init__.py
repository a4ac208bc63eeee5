"""The laboratory: comparisons of optimizers that people can believe, and the ``hammer`` command.

How the parts meet: a ``config`` names ``problems`` and ``optimizers``; ``protocol`` turns it into trials; ``comparison``
looks for them in the ``store`` and has an executor of ``executors`` run the rest, each a ``trial`` in a ``worker``; ``plan``
says how long that may take, ``progress``, ``sweep`` and ``watch`` how far it is; ``analysis`` computes what the trials say with
``evidence`` and ``stats``; ``report`` writes it down, ``current`` knows whether that is still so, and ``reports`` writes it
again or of several runs; ``reproduce`` and ``export`` read finished ``runs`` back; ``cli`` is the command, with the
``options`` of its ``commands``. ``datasets`` has the data, ``seeds`` the random streams, ``environment`` and ``doctor`` what a
result depends on besides its config.

A problem is a file in ``problems``, an optimizer an entry in ``optimizers``, a dataset a function in ``datasets``.
docs/protocol.md states the rules, docs/lab.md describes the command.
"""
