"""The contract of a method, and what a method may borrow: a training loop, augmentation, losses, a solver."""
