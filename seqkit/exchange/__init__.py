"""Export of trained models to the formats of other tools, each checked against the tool before it is written."""

__all__: list[str] = []
