"""How finished trials become one blend that predicts. No Ray in here.

Sub-packages, from top to bottom; each may import those below it:

    blend > estimate > weighting > members
"""
