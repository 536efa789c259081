"""What a network costs, counted operation by operation in JAX's own trace of it.

Like XLA's count, except that a loop's body counts as often as it is gone through. A convolution
multiplies only where its filter lies on the image.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params
from jax.interpreters import partial_eval

from diffusion_ode.networks.network import ForwardFlops
from diffusion_ode.networks.rematerialization import KeepAll

# They move or name values; and transcendental functions, which XLA counts apart.
_MOVES = ("broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "concatenate", "pad")
_NAMES = ("copy", "copy_p", "iota", "gather", "split", "dynamic_slice", "rev", "name")
_TRANSCENDENTAL = ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "rsqrt", "sqrt", "erf")
_RANDOM = ("random_bits", "random_fold_in", "random_wrap", "random_unwrap")
_FREE = frozenset((*_MOVES, *_NAMES, *_TRANSCENDENTAL, *_RANDOM))
# Per random bit's word: the cipher, and the comparison and product with what comes of it.
_DROPOUT = 60


def counted_flops(network: Any, shape: tuple[int, int, int]) -> ForwardFlops:
    """One evaluation of one image [h, w, c], and what its rematerialisation computes again.

    Args:
      network: with the fields `remat`, `precision` and, perhaps, `dropout`.
      shape: of the image.
    """
    image, one = jnp.zeros((1, *shape)), jnp.zeros(1)
    parameters = jax.eval_shape(network.init, jax.random.key(0), image, one, one, one)

    def forward(network, parameters, z):
        return network.apply(parameters, z, one, one, one)

    def dropped(parameters, z):
        rngs = {"dropout": jax.random.key(0)}
        return network.apply(parameters, z, one, one, one, deterministic=False, rngs=rngs)

    def gradient(network, along):
        def loss(parameters, z):
            value = functools.partial(forward, network, parameters)
            return jax.tree.map(jnp.sum, jax.jvp(value, (z,), (z,)) if along else value(z))

        def total(parameters, z):
            return sum(jax.tree.leaves(loss(parameters, z)))

        return _products(jax.grad(total), parameters, image)

    again = [0.0, 0.0]
    if not isinstance(network.remat, KeepAll):
        plain = network.clone(remat=KeepAll())
        again = [gradient(network, along) - gradient(plain, along) for along in (False, True)]
    closed = jax.make_jaxpr(lambda p, z: forward(network, p, z))(parameters, image)
    random = 0.0
    if getattr(network, "dropout", 0.0):
        random = _total(jax.make_jaxpr(dropped)(parameters, image).jaxpr, _words)
    return ForwardFlops(
        products=_total(closed.jaxpr, _product),
        elementwise=_total(closed.jaxpr, _elementwise),
        dropout=_DROPOUT * random,
        recomputed=again[0],
        recomputed_along=again[1] - again[0],
        bfloat16=network.precision.dtype == jnp.bfloat16,
    )


def _products(function: Callable, *arguments: Any) -> float:
    """Of what the function's results depend on."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return _total(partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0], _product)


def _total(jaxpr: Any, cost: Callable[[Any], float]) -> float:
    """Summed over a trace and what it calls."""
    total = 0.0
    for equation in jaxpr.eqns:
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        inner = list(jaxprs_in_params(equation.params))
        total += times * sum(_total(each, cost) for each in inner) if inner else cost(equation)
    return total


def _product(equation: Any) -> float:
    out, params = equation.outvars[0], equation.params
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * out.aval.size * math.prod(left[axis] for axis in contracted)
    if equation.primitive.name != "conv_general_dilated":
        return 0.0
    image, kernel = (variable.aval.shape for variable in equation.invars)
    numbers = params["dimension_numbers"]
    places = 1.0
    for axis, (left, right, result) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        dilation = params["lhs_dilation"][axis]
        at = (
            np.arange(out.aval.shape[result])[:, None] * params["window_strides"][axis]
            + np.arange(kernel[right]) * params["rhs_dilation"][axis]
            - params["padding"][axis][0]
        )
        within = (at >= 0) & (at <= (image[left] - 1) * dilation) & (at % dilation == 0)
        places *= float(within.sum())
    batch, features = (out.aval.shape[axis] for axis in numbers.out_spec[:2])
    return 2.0 * batch * features * kernel[numbers.rhs_spec[1]] * places


def _elementwise(equation: Any) -> float:
    name = equation.primitive.name
    if name in _FREE or name in ("dot_general", "conv_general_dilated"):
        return 0.0
    if name.startswith("reduce_window"):
        return equation.outvars[0].aval.size * math.prod(equation.params["window_dimensions"])
    which = equation.invars if name.startswith("reduce") else equation.outvars
    return float(which[0].aval.size)


def _words(equation: Any) -> float:
    return equation.outvars[0].aval.size if equation.primitive.name == "random_bits" else 0.0
