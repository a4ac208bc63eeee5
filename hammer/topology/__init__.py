"""The topology of clouds, landscapes, trajectories and graphs: persistent homology that can be differentiated.

    (components, loops) = rips(points)              # Diagrams of a cloud; alpha(points) in few dimensions
    (pits, holes) = cubical(values)                 # of a function on a grid; basins(values) for its minima and passes
    total_persistence(loops)                        # a number; with a recorded DiffTensor as points, one with a gradient

Files: ``metric`` (distances, landmarks) and ``components`` (H0 by spanning trees) need nothing; ``clouds``, ``witnesses``,
``landscapes`` with ``basins``, and ``graphs`` make Diagrams (``diagram``); ``summaries``, ``matching`` and ``losses`` compute of them by operations of
``autograd.ops``; ``collect`` makes clouds of models and series, ``slices`` grids of a loss, ``mapping`` a graph of a cloud; ``dimension`` and ``monitor`` look at runs, by
way of ``sketch``, and ``topograd`` acts on them; ``pictures`` and ``page`` show diagrams, ``stored`` keeps them. Only dimensions above 0 need
gudhi (``libraries``): ``pip install "hammer-grad[topology]"``.
"""

from . import pictures
from .basins import Basins, basins
from .clouds import alpha, rips
from .collect import Trajectory, activation_clouds, flat, gradient_cloud, periodicity, sliding_windows
from .components import spanning_tree
from .diagram import Diagram
from .dimension import PHDimension, ph_dimension
from .graphs import computation_edges, graph_components, layer_components, neural_persistence
from .landscapes import cubical
from .losses import connectivity, prescribed, separation, smoothness, spread, to_target
from .mapping import MapperGraph, mapper
from .matching import Matching, bottleneck, bottleneck_matching, wasserstein, wasserstein_matching
from .metric import Landmarks, distances, farthest_points
from .monitor import Monitor
from .page import save_html, to_html
from .slices import (
    Landscape,
    Path,
    TrajectoryPlane,
    loss_landscape,
    loss_path,
    random_directions,
    trajectory_plane,
)
from .stored import load_diagrams, save_diagrams
from .summaries import (
    betti_curve,
    image_bound,
    persistence_entropy,
    persistence_image,
    persistence_landscape,
    total_persistence,
)
from .topograd import TopoGrad
from .witnesses import witness, witness_times

__all__ = [
    "Basins", "Diagram", "Landmarks", "Landscape", "MapperGraph", "Matching", "Monitor", "PHDimension", "Path",
    "TopoGrad", "Trajectory", "TrajectoryPlane", "activation_clouds", "alpha", "basins", "betti_curve", "bottleneck",
    "bottleneck_matching", "computation_edges", "connectivity", "cubical", "distances", "farthest_points", "flat",
    "gradient_cloud", "graph_components", "image_bound", "layer_components", "load_diagrams", "loss_landscape",
    "loss_path", "mapper", "neural_persistence", "periodicity", "persistence_entropy", "persistence_image",
    "persistence_landscape", "ph_dimension", "pictures", "prescribed", "random_directions", "rips", "save_diagrams",
    "save_html", "separation", "sliding_windows", "smoothness", "spanning_tree", "spread", "to_html", "to_target",
    "total_persistence", "trajectory_plane", "wasserstein", "wasserstein_matching", "witness", "witness_times",
]  # fmt: skip
