"""How trials are scheduled, run on Ray, recorded and resumed. Ray's own module is always written `ray.tune` here.

`sweep` and `bookkeeper` stand on top of the sub-packages; each of those may import the ones below it:

    cluster > search > trackers > records
"""
