"""Ray: connecting to it, placing trials on nodes, the trainable, parallel folds, data and code for other nodes.

Which trial runs next belongs in `tune.search`.
"""
