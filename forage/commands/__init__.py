"""The commands of `forage` that are a few lines around the Python API: sweeps, runs, blends, data, pages, trials.

Commands with a computation of their own are beside it: `outer_cv`, `replay`, `recipes`, `environment`."""
