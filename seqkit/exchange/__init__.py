"""Trained models in the formats of other tools. Each is checked against the tool itself before it is handed out."""

__all__: list[str] = []
