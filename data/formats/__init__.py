"""Readers of the publishers' file formats, each safe against hostile and damaged files."""
