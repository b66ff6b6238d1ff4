"""What is done with series once they are read: gaps, lengths, windows, splits."""
