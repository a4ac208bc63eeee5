"""What a smaller tuning budget would have found, computed from the trials of the whole one."""

import numpy as np


def best_of(values: np.ndarray) -> np.ndarray:
    """The expected largest of k of the n values, for k = 1..n: exact, over all subsets of size k.

    The i-th largest value (from 1) is the best of the subsets that hold it and k-1 of the n-i smaller ones:
    ``sum_i v_(i) C(n-i, k-1) / C(n, k)``. This is the unbiased form of the expected-performance curve of Dodge et al.,
    "Show your work", EMNLP 2019, who draw with replacement (Tang et al., "Showing your work doesn't always work", ACL 2020).

    Args:
        values: (n,), finite.

    Returns:
        (n,): the k-th entry belongs to a budget of k+1 values.
    """
    ordered = np.sort(values)[::-1]
    n = len(ordered)
    expected = np.empty(n)
    weight = np.full(n, 1.0 / n)  # for k = 1: each value is a subset
    for k in range(1, n + 1):
        expected[k - 1] = weight @ ordered
        # C(n-i, k) / C(n, k+1) from C(n-i, k-1) / C(n, k)
        if k < n:
            i = np.arange(1, n + 1)
            weight = weight * np.maximum(n - i - k + 1, 0) * (k + 1) / (k * (n - k))
    return expected
