"""`forage recipes`: the shipped recipes, the fields of a recipe, and the memory that one needs."""
