"""Figures of the forking experiment keep their scales, and say what they show."""
