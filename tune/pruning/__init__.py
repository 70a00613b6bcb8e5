"""For how long trials run: rungs, pruners, Tune's scheduler, promotion of the best.

Which recipes are tried belongs in `tune.search`, what trials have reported in `tune.records`.
"""
