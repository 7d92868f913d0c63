"""A model over many inputs, by search, scoring or labelling: batches by length, results in the order of the inputs."""

__all__: list[str] = []
