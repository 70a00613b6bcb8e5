"""How trials are scheduled, recorded, resumed and watched. In here, Ray's module is always written `ray.tune`."""
