"""A run from its recipe to its published model: the folder, the network, one attempt at training."""

__all__: list[str] = []
