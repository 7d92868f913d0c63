"""The conversation of `seqkit translate` at a terminal."""

__all__: list[str] = []
