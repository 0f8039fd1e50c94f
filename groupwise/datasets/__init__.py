"""Questions q ~ D: generated or read from files, split into train and held-out, dealt in a fixed order. No torch."""
