"""The inverse of row-autoregressive flows, row after row; all of it is the `Inverter` of `op`.

| file | what it has |
|---|---|
| `op` | the weights, the protocol, the reference that defines it, and which backend runs |
| `cpu` | symmetric flows on a CPU: the loops over tiles, flows, rows and layers |
| `cpu_step` | one layer's step on one row, its queue of past rows and its buffers |
| `cpu_plan` | how much memory a plan takes, and the fastest that keeps to a budget |
| `cpu_tiles` | the order of columns that keeps the memory of a long utterance bounded |
| `cpu_weights` | the matrices, packed |
| `causal` | causal flows, chunk after chunk, with a state between them |
| `triton_op` | the GPU's inverter, and the program that a CUDA graph replays |
| `triton_launch` | the launches of one flow's rows |
| `triton_tiles` | how a row is cut, for each card, model and length |
| `triton_kernels`, `triton_transposed` | the kernels, for long and for short rows |
"""
