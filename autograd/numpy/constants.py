"""Names of NumPy that need no derivative: types, constants, and functions that make or describe plain arrays.

An explicit list: a name that a release of NumPy adds does not appear here by itself, and one that it drops is left out.
"""

from typing import Any

import numpy as np

NAMES = (
    # constants
    "e", "euler_gamma", "inf", "nan", "newaxis", "pi", "True_", "False_", "index_exp", "s_", "mgrid", "ogrid",
    # types
    "bool", "bool_", "bytes_", "byte", "complex64", "complex128", "complexfloating", "cdouble", "clongdouble", "csingle",
    "double", "dtype", "finfo", "flexible", "float16", "float32", "float64", "floating", "generic", "half", "iinfo",
    "inexact", "int8", "int16", "int32", "int64", "intc", "integer", "int_", "intp", "long", "longdouble", "longlong",
    "ndarray", "number", "object_", "short", "signedinteger", "single", "str_", "ubyte", "uint", "uint8", "uint16", "uint32",
    "uint64", "uintc", "uintp", "ulong", "ulonglong", "unsignedinteger", "ushort", "ufunc", "void", "datetime64",
    "timedelta64", "character", "ndenumerate", "ndindex", "nditer", "broadcast", "vectorize", "errstate", "matrix", "memmap",
    # making plain arrays
    "arange", "empty", "eye", "fromfunction", "fromiter", "frombuffer", "fromstring", "geomspace", "identity", "logspace",
    "ones", "zeros", "tri", "vander", "bartlett", "blackman", "hamming", "hanning", "kaiser", "indices", "diag_indices",
    "diag_indices_from", "tril_indices", "triu_indices", "tril_indices_from", "triu_indices_from", "ix_", "ravel_multi_index",
    "mask_indices", "asfortranarray", "require", "array2string", "array_repr", "array_str", "block",
    # dtypes, shapes, settings
    "broadcast_shapes", "can_cast", "common_type", "isdtype", "issubdtype", "iterable", "min_scalar_type",
    "mintypecode", "promote_types", "typename", "geterr", "seterr", "get_printoptions", "set_printoptions", "printoptions",
    "einsum_path", "base_repr", "binary_repr", "format_float_positional", "format_float_scientific", "show_config",
    # files
    "load", "loadtxt", "genfromtxt", "save", "savetxt", "savez", "savez_compressed", "fromfile",
    # functions of plain data: a tensor among their arguments is refused with a message
    "apply_along_axis", "apply_over_axes", "convolve", "copyto", "correlate", "corrcoef", "cov",
    "divmod", "extract", "fill_diagonal", "frexp", "frompyfunc", "gcd", "histogram2d", "histogram_bin_edges", "histogramdd",
    "in1d", "insert", "interp", "intersect1d", "isin", "lcm", "ldexp", "modf", "nancumprod", "nancumsum",
    "nanmedian", "nanpercentile", "nanquantile", "nanstd", "nanvar", "packbits", "piecewise", "place", "poly",
    "poly1d", "polyadd", "polyder", "polydiv", "polyfit", "polyint", "polymul", "polysub", "polyval", "put", "put_along_axis",
    "putmask", "resize", "roots", "setdiff1d", "setxor1d", "sort_complex", "spacing", "trapz", "trim_zeros",
    "union1d", "unique", "unpackbits", "unwrap",
)  # fmt: skip

FACES: dict[str, Any] = {name: getattr(np, name) for name in NAMES if hasattr(np, name)}
