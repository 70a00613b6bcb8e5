"""What one trial does: one recipe, trained on all folds in lock-step. No Ray in here.

Sub-packages, from top to bottom; each may import those below it:

    trial > fitted > training > features > network > {images, compute} > recipe
"""
