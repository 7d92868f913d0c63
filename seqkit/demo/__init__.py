"""Corpora made on the spot, free of licences and exactly checkable, with recipes that learn them within minutes."""

from seqkit.demo.parallel_corpora import DemoTask, numbers, reverse, split, write

__all__ = ["DemoTask", "numbers", "reverse", "split", "write"]
