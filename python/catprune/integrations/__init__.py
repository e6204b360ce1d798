"""catprune within other libraries' training loops."""
