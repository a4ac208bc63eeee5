"""Fractal gradients: derivatives at several scales, of fractional order, and measures of roughness.

``smoothing`` has the function transforms ``smooth`` and ``multiscale``, ``recipes`` the optimizers made of them, ``regularity`` the
exponent of a gradient by scale (all draw from ``directions``). ``fractional`` has derivatives of fractional order of signals, and
gradient memories with power-law kernels; ``wavelets`` the Haar transform and multiresolution of gradients. ``dimension`` estimates
fractal dimensions of sets and signals, ``signals`` makes some whose dimension is known. ``trainability`` runs grids of trainings as one
program and zooms into the boundary of those that converge; ``slices`` cuts slices through losses.
"""

import importlib
from typing import Any

_HOME = {
    "smoothing": ("dyadic", "gated", "multiscale", "smooth"),
    "recipes": ("FractalAdamW", "FractalOptimizer", "FractalSGD"),
    "regularity": ("Roughness", "roughness"),
    "fractional": (
        "PowerLaw", "caputo", "fractional_difference", "fractional_memory", "fractional_weights", "power_law", "power_law_memory",
    ),
    "wavelets": ("Haar", "haar", "inverse_haar", "scale_by_resolution", "scale_by_resolution_over_time"),
    "dimension": ("Estimate", "box_counting", "correlation_dimension", "dfa", "higuchi"),
    "signals": ("fractional_brownian", "sierpinski_carpet", "sierpinski_points", "sierpinski_triangle"),
    "trainability": ("Axis", "Field", "Grid", "Training", "Trainings", "Zoom", "boundary", "descent", "zoom"),
    "slices": ("ScaleRoughness", "Slice", "filter_direction", "landscape", "roughness_by_scale"),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
