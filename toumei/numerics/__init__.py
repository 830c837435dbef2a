"""Special functions on NumPy arrays: no derivatives, no tensors; `ops.special` gives them those.

Everything computes in float64 and gives arrays of the shape of its arguments, with NaN and the
infinities where the functions have them.
"""
