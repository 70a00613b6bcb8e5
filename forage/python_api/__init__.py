"""The Python API: `import forage` gives these functions and classes, which the command line calls, too."""
