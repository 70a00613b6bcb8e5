"""Training of one trial: one recipe on all folds in lock-step. This package does not use Ray.

Sub-packages, from top to bottom; each may import those below it:

    trial > fitted > training > features > network > {images, compute} > recipe
"""
