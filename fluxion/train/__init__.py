"""Training: the step, the loop, fit, and what they report."""
