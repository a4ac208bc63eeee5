"""The laboratory: comparisons of optimizers that people can believe, and the ``hammer`` command.

How the parts meet: a ``config`` names ``problems`` and ``optimizers``; ``protocol`` turns it into trials; ``comparison``
looks for them in the ``store`` and has ``worker`` processes run the rest, each a ``trial``; ``analysis`` computes what
they say with ``evidence`` and ``stats``; ``reproduce`` and ``export`` read finished ``runs`` back; ``report`` writes it down; ``cli`` is the command. ``datasets`` has the data, ``seeds`` the
random streams, ``environment`` and ``doctor`` what a result depends on besides its config.

A problem is a file in ``problems``, an optimizer an entry in ``optimizers``, a dataset a function in ``datasets``.
docs/protocol.md states the rules.
"""
