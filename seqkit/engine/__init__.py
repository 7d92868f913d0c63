"""One model over many inputs: batches by length, results in the order of the inputs."""

__all__: list[str] = []
