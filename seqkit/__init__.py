"""seqkit."""
