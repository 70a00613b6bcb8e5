"""Everything that defines one model: the recipe, its sections, and its random seeds. No torch at import.

What may vary from trial to trial belongs in `search_spaces`.
"""
