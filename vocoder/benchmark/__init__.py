"""How fast models and kernels are on this machine."""
