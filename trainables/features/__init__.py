"""Features of a frozen backbone: computed once, kept in the feature bank, or imported as embeddings.

Decoded photographs belong in `trainables.images`, the networks themselves in `trainables.network`.
"""
