"""The class of tensors under HIPS autograd's name for it: ``from autograd.numpy.numpy_boxes import ArrayBox``."""

from ..tensor import DiffTensor

ArrayBox = DiffTensor
