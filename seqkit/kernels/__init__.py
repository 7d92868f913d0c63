"""Arithmetic written for speed, which layers, losses and engines call by name.

A reader of a model need not read these files: each kernel states the equation that it computes, and a test holds it to
that equation.
"""

__all__: list[str] = []
