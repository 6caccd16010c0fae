"""Gradient descent on the unconstrained feature model."""
