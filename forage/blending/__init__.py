"""What `forage` does with a blend beyond `ensemble`: refitted members, limits of time and size, pseudo-labels."""
