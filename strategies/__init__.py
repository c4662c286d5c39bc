"""Flower strategies over the LoRA aggregation arithmetic.

Start at :mod:`strategies.aggregation` for the arithmetic (pure NumPy, knows no Flower).
"""
