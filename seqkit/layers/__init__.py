"""The layers of networks, each as its equation: cells, recurrent stacks, attention, positions, Transformer layers.

They take numbers, not settings, and know neither text nor data. Import each from its own module.
"""

__all__: list[str] = []
