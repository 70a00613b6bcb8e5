"""Photographs: views, D4 transforms, augmentation, and the cache of decoded pictures.

What a backbone makes of them belongs in `trainables.features`.
"""
