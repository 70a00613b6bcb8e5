"""Hyperparameter search on Ray and ensembles for pasture biomass from photographs, from Python.

    import forage

    run = forage.launch("data/csiro", trials=24)
    blend = forage.build(run, "blend")
    predictions = blend.predict("data/csiro")

The command line calls the same functions. torch, Ray and pandas are imported when a function first needs them.
"""

from forage.python_api.blend import Blend, write_submission
from forage.python_api.functions import build, import_members, launch, load_blend, load_run, propose, resume, train
from forage.python_api.run import Interrupted, Run

__all__ = [
    "Blend",
    "Interrupted",
    "Run",
    "build",
    "import_members",
    "launch",
    "load_blend",
    "load_run",
    "propose",
    "resume",
    "train",
    "write_submission",
]
