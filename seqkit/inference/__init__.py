"""The use of trained models: text in, and translations, labels, more text or figures out."""

__all__: list[str] = []
