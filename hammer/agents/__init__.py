"""Agents: gradients computed by many ranks, that keep their bits, talk little, and survive a rank that lies.

An *agent* is a rank with a role, and what agents do with gradients are links in the same chains that run serially:

* ``communicator`` is what a transport must do, ``mpi`` the ranks of an MPI job, ``threads`` ranks that are threads, for tests;
* ``data_parallel`` is the mean over the ranks' gradients, ``reduction`` the sum below it whose bits do not depend on their
  number, ``buckets`` what is sent together.
"""

from .communicator import AgentsError, Alone, Communicator, Pending, world
from .data_parallel import Shares, all_reduce
from .reduction import TreeSum, share, tree_cost
from .threads import run

__all__ = [
    "AgentsError",
    "Alone",
    "Communicator",
    "Pending",
    "Shares",
    "TreeSum",
    "all_reduce",
    "run",
    "share",
    "tree_cost",
    "world",
]
