"""What every step stands on: its folder, its share of the work, the machine it runs on, progress."""
