"""What several tests build on: small models, corpora, runs and processes, each in a module of its subject."""
