"""Agents: gradients computed by many ranks, that keep their bits, talk little, and survive a rank that lies.

An *agent* is a rank with a role, and what agents do with gradients are links in the same chains that run serially:

* ``communicator`` is what a transport must do, ``mpi`` the ranks of an MPI job, ``threads`` ranks that are threads, for tests;
* ``data_parallel`` is the mean over the ranks' gradients, ``reduction`` the sum below it whose bits do not depend on their
  number, ``buckets`` what is sent together, ``memory`` has their vectors again in the next step, ``overlap`` sends them while
  backward goes on;
* ``robust`` has aggregation that a minority of ranks cannot bend, ``rules`` what it makes of their gradients, and ``attacks`` what they may
  try;
* ``local`` is for ranks that meet every H steps, ``delayed`` for ranks that do not wait, ``gossip`` for ranks that talk to
  neighbours only, ``wire`` for compression on the way;
* ``population`` is for agents that differ, of which the worse go on from the better;
* ``statistics`` normalises batches over the examples of all ranks;
* ``team`` puts data parallel training below ``autograd.train.Trainer``;
* ``recorder`` notes what every operation takes, ``timeline`` shows it, and ``scaling`` takes it to ranks that are not there;
  ``watchdog`` ends a wait that is too long, and ``survive`` goes on without ranks that are lost;
* ``launch`` knows what ``mpiexec`` needs on this machine.
"""

from . import attacks, launch, robust, rules, scaling, survive
from .communicator import AgentsError, Alone, Communicator, Pending, RankLost, world
from .data_parallel import Shares, all_reduce
from .delayed import delayed, stable_rate
from .gossip import Mixing, complete, exponential, gossip, metropolis, ring, torus
from .local import local_steps, share_parameters, share_state
from .overlap import backward
from .population import Decision, Member, Policy, Population, Truncation
from .recorder import Recorder
from .reduction import TreeSum, share, tree_cost
from .robust import aggregate
from .statistics import sync_statistics
from .survive import together
from .team import Team
from .threads import Killed, run
from .timeline import Timeline
from .wire import compressed

__all__ = [
    "AgentsError", "Alone", "Communicator", "Decision", "Killed", "Member", "Mixing", "Pending", "Policy", "Population", "RankLost", "Recorder",
    "Shares", "Team", "Timeline", "TreeSum", "Truncation", "aggregate", "all_reduce", "attacks", "backward", "complete",
    "compressed", "delayed", "exponential", "gossip", "launch", "local_steps", "metropolis", "ring", "robust", "rules", "run", "scaling",
    "share", "share_parameters", "share_state", "stable_rate", "survive", "sync_statistics", "together", "torus", "tree_cost", "world",
]  # fmt: skip
