"""What may vary: a small language over recipe fields, the named spaces and the named recipes (presets). No torch."""
