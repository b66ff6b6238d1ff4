"""Distil a model into few calls."""

from lightning_freqdiff.distilling.distill import LEARNING_RATE, check_output, distill, save, student_of, told

__all__ = ["LEARNING_RATE", "check_output", "distill", "save", "student_of", "told"]
