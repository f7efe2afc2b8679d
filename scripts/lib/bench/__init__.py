"""What `scripts/bench` is made of: a laboratory, ways to measure, and the cases."""
