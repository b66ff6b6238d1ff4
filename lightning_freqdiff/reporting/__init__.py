"""Figures, pages, and what a figure was measured on."""
