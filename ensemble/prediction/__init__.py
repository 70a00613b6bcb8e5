"""What a blend does with new photographs: predictions, their uncertainty, density maps, a submission."""
