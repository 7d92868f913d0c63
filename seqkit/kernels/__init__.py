"""Arithmetic written for speed, which layers, losses and engines call by name; each kernel has a plain equation.

No reader of a model has to read these files: a test holds every kernel to the equation that it computes.
"""

__all__: list[str] = []
