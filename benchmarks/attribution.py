"""Compare our attributions with Captum and Zennit, on the same weights.

Run: python -m benchmarks.attribution [--out FILE]    (needs torch, captum, zennit)

Two networks with biases (a dense one, and one of convolutions and max-pools) have random weights and inputs in float64.
The largest logit is explained. A difference is the largest one over all inputs, in units of the largest attribution.
"""

import argparse
from pathlib import Path

import captum.attr  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import zennit.composites as composites  # pyright: ignore[reportMissingImports]
import zennit.rules as rules  # pyright: ignore[reportMissingImports]
from captum.attr._utils.lrp_rules import EpsilonRule  # pyright: ignore[reportMissingImports]
from zennit.attribution import Gradient  # pyright: ignore[reportMissingImports]
from zennit.types import Activation, Convolution, Linear  # pyright: ignore[reportMissingImports]

from jaxdescramble import attribution

LOW, HIGH = -4.0, 4.0


def dense():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12), torch.nn.ReLU(),
              torch.nn.Linear(12, 5)]  # fmt: skip
    model = torch.nn.Sequential(*layers).double()
    params = [(one.weight.detach().numpy().T, one.bias.detach().numpy()) for one in layers[::2]]

    def f(params, x):
        for k, (w, b) in enumerate(params):
            x = x @ w + b
            x = jax.nn.relu(x) if k < 2 else x
        return x

    return model, f, params, np.random.default_rng(0).standard_normal((8, 20))


def convolutional():
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
              torch.nn.Conv2d(4, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
              torch.nn.Linear(54, 5)]  # fmt: skip
    model = torch.nn.Sequential(*layers).double()
    params = [(layers[i].weight.detach().numpy(), layers[i].bias.detach().numpy()) for i in (0, 3, 7)]

    def f(params, x):
        for w, b in params[:2]:
            x = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME") + b[None, :, None, None]
            x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        return x.reshape(len(x), -1) @ params[2][0].T + params[2][1]

    return model, f, params, np.random.default_rng(1).standard_normal((8, 1, 12, 12))


def by_zennit(model, x, target, rule, first=None):
    layers = [(Activation, rules.Pass()), (Convolution, rule), (Linear, rule)]
    composite = composites.LayerMapComposite(layer_map=layers)
    if first is not None:
        composite = composites.SpecialFirstLayerMapComposite(
            layer_map=layers, first_map=[(Convolution, first), (Linear, first)]
        )
    with Gradient(model=model, composite=composite) as attributor:
        _, relevance = attributor(x, lambda out: torch.nn.functional.one_hot(target, out.shape[1]) * out)
    return relevance.detach().numpy()


def rows(name, model, f, params, numbers):
    x = torch.tensor(numbers, requires_grad=True)
    target = model(x).argmax(1)
    np.testing.assert_allclose(model(x).detach().numpy(), f(params, jnp.asarray(numbers)), rtol=0, atol=1e-12)
    low, high = (torch.full_like(x[:1], edge) for edge in (LOW, HIGH))
    box, square = rules.ZBox(low, high, 1e-12, "bias"), rules.WSquare(1e-12, "bias")
    positive, both = rules.AlphaBeta(1.0, 0.0, 1e-12), rules.AlphaBeta(2.0, 1.0, 1e-12)

    def captums_lrp():
        for module in model:
            module.rule = EpsilonRule(epsilon=1e-12)
        return captum.attr.LRP(model).attribute(x, target)

    cases = [
        ("gradient", "Captum", lambda: captum.attr.Saliency(model).attribute(x, target, abs=False), "gradient", {}),
        ("input x gradient", "Captum", lambda: captum.attr.InputXGradient(model).attribute(x, target),
         "input_x_gradient", {}),
        ("integrated gradients, 64", "Captum",
         lambda: captum.attr.IntegratedGradients(model).attribute(x, target=target, n_steps=64),
         "integrated_gradients", {"steps": 64}),
        ("LRP, epsilon", "Captum", captums_lrp, "lrp", {"rule": "epsilon", "epsilon": 1e-12}),
        ("LRP, epsilon", "Zennit", lambda: by_zennit(model, x, target, rules.Epsilon(0.1)), "lrp",
         {"rule": "epsilon", "epsilon": 0.1}),
        ("LRP, alpha 2, beta 1", "Zennit", lambda: by_zennit(model, x, target, both), "lrp",
         {"rule": "alpha-beta", "alpha": 2.0, "beta": 1.0}),
        ("LRP, alpha 1, beta 0", "Zennit", lambda: by_zennit(model, x, target, positive), "lrp",
         {"rule": "alpha-beta"}),
        ("LRP, epsilon, w2 first", "Zennit", lambda: by_zennit(model, x, target, rules.Epsilon(0.1), square), "lrp",
         {"rule": "epsilon", "epsilon": 0.1, "input_rule": "w2"}),
        ("Deep Taylor, z-box", "Zennit", lambda: by_zennit(model, x, target, positive, box), "deep_taylor",
         {"low": LOW, "high": HIGH}),
    ]  # fmt: skip
    for what, whose, theirs, method, options in cases:
        ours = np.asarray(getattr(attribution, method)(f, params, jnp.asarray(numbers), **options))
        peer = theirs()
        peer = peer.detach().numpy() if hasattr(peer, "detach") else peer
        off = np.abs(ours - peer).max() / np.abs(peer).max()
        yield f"| {what} | {whose} | {name} | {off:.0e} |"


def main(out: Path):
    jax.config.update("jax_enable_x64", True)
    lines = ["# Attribution beside Captum and Zennit", ""]
    lines += [f"`python -m benchmarks.attribution`; captum {captum.__version__}, torch {torch.__version__}, "
              f"jax {jax.__version__}, float64, CPU.", ""]  # fmt: skip
    lines += ["| method | beside | network | largest difference |", "|---|---|---|---|"]
    for name, make in (("dense", dense), ("convolutional", convolutional)):
        for line in rows(name, *make()):
            lines.append(line)
            print(line, flush=True)
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "attribution.md")
    main(**vars(parser.parse_args()))
