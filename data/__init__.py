"""Images: sources, safe readers of their formats, augmentation and the input pipeline."""
