"""Synthetic paddocks: drawn photographs in the competition's layout whose pixels determine the weights.

First the truth is drawn (dates, species, grams), then each picture is drawn *from* its grams: so many blades, clover
leaves and straws for each gram, one over another, on soil, in the light of its date. There are two kinds:

- `demo` (`pasture.synthetic.truth`): easy, so that small models learn something in seconds;
- `real` (`pasture.synthetic.real_truth`): about as hard as the competition's photographs, to compare methods on.
"""

from pasture.synthetic.folder import Kind, make_data

__all__ = ["Kind", "make_data"]
