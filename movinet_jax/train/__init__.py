"""Training: state, losses, metrics, optimizers, steps, the loop, checkpoints."""
