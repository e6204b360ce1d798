"""What every step uses: its folder, its share of the work, the resources of the machine, progress."""
