"""Trained models at work: text in, and translations, labels, more text or figures out."""

__all__: list[str] = []
