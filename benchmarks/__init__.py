"""Speed and memory as ratios against a named reference in one run, and the learning result over seeds."""
