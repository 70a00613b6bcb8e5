"""Use of a blend on new photographs: predictions, their uncertainty, density maps, a submission."""
