"""Trains a small network with tinygrad on the device that DEV names, and prints the loss of each step.

The numbers to learn from are made here, so that every device sees the same: points of two rings.
"""
import math

from tinygrad import Context, Device, Tensor, nn

STEPS = 25
POINTS = 128


def points():
    places, kinds = [], []
    for i in range(POINTS):
        angle, radius = i * 2.4, 0.5 + i % 2
        places.append([radius * math.cos(angle), radius * math.sin(angle)])
        kinds.append(i % 2)
    return Tensor(places), Tensor(kinds)


def weights(rows, columns, seed):
    """Numbers that do not depend on a device's generator."""
    state, values = seed, []
    for _ in range(rows):
        row = []
        for _ in range(columns):
            state = (state * 1103515245 + 12345) % 2**31
            row.append((state / 2**31 - 0.5) * 2 / math.sqrt(columns))
        values.append(row)
    return Tensor(values)


class Network:
    def __init__(self):
        self.layers = [nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 2)]
        for seed, layer in enumerate(self.layers):
            layer.weight = weights(*layer.weight.shape, seed + 1)
            layer.bias = Tensor.zeros(layer.bias.shape[0]).contiguous()

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).tanh()
        return self.layers[-1](x)


def main():
    places, kinds = points()
    network = Network()
    optimizer = nn.optim.Adam(nn.state.get_parameters(network), lr=0.03)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = network(places).sparse_categorical_crossentropy(kinds)
        loss.backward()
        optimizer.step()
        print(f"loss {step} {loss.item():.9f}", flush=True)
    right = (network(places).argmax(axis=1) == kinds).sum().item()
    print(f"right {right} of {POINTS} on {Device.DEFAULT}")


with Context(TRAINING=1):
    main()
