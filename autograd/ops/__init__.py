"""Differentiable operations: the rows of the op table as functions, by family.

They take tensors, arrays or numbers; with no tensor among them they return plain arrays. Parameters follow the arrays,
by position or by name: ``ops.sum(x, axis=0)``. ``autograd.table.OPS`` lists every row.
"""

from . import tensor_methods  # noqa: F401
from .activations import *  # noqa: F403
from .bessel import *  # noqa: F403
from .convolution import *  # noqa: F403
from .decomposition import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .fourier import *  # noqa: F403
from .index import *  # noqa: F403
from .inverses import *  # noqa: F403
from .layout import *  # noqa: F403
from .linalg import *  # noqa: F403
from .matrices import *  # noqa: F403
from .more import *  # noqa: F403
from .nn import *  # noqa: F403
from .normalization import *  # noqa: F403
from .pooling import *  # noqa: F403
from .reduce import *  # noqa: F403
from .special import *  # noqa: F403
