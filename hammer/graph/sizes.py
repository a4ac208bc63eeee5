def trace_sized(*a): return None
