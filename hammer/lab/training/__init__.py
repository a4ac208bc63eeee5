"""``hammer run``: a training run from its config.

``sources`` has the datasets that a config may name, ``text`` those of language modelling, ``models`` the models; ``names`` registers
them, and takes names of the form ``module:function`` from a person's own code. ``setup`` turns a config into a Trainer and
its data, ``command`` is what the command line calls.
"""
