"""This machine and its settings: `forage doctor`, `forage config` and forage.toml."""
