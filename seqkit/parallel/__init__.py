"""Several processes as one: what they exchange, and tensors of which each holds a share."""

__all__: list[str] = []
