"""Counting operations: one counter, several conventions, and the counts of other libraries beside them.

`exact`, the default: `macs` are the multiply-accumulates of convolutions, linear layers, matrix products, recurrent
layers and attention, and of products of two tensors that are then summed; `flops` are two for each, and one per element
and elementary operation for everything else:

- a pointwise operator, activation function or comparison: 1 per output element;
- a sum, maximum and the like: 1 per input element; a mean 1 more per output element;
- softmax: 5 per element; normalisation: 2 with stored statistics, 6 with its own (`formulas.normalisation`);
- pooling: 1 per element of each window, and for a mean 1 more per output element;
- gates of recurrent layers: 2 (RNN), 10 (GRU) or 13 (LSTM) per unit, and their biases (`formulas.recurrent`);
- making, moving, selecting and describing data, and all of it on integers: nothing (`free`);
- complex numbers: 2 for an operation, 6 for a product, 4 multiply-accumulates for one.

`paper`: what the published tables count (`paper`); `fvcore`, `thop`, `torch`: what these libraries do (`crosschecks`).
"""
