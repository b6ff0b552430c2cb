"""What the adapters of Fluxion's styles share."""

from __future__ import annotations

from .. import parts as w
from .. import programs


def versions() -> dict[str, str]:
    import jax

    import fluxion as fx

    return {"fluxion": fx.__version__, "jax": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


def optimizer(rule: w.Optimizer) -> str:
    if isinstance(rule, w.Adam):
        betas = programs.betas(rule, ", betas=({}, {})")
        epsilon = f", eps={programs.number(rule.epsilon)}" if rule.epsilon != 1e-8 else ""
        return f"fx.Adam({programs.number(rule.rate)}{betas}{epsilon})"
    if isinstance(rule, w.Momentum):
        return f"fx.Momentum({programs.number(rule.rate)}, rho={programs.number(rule.rho)})"
    return f"fx.Descent({programs.number(rule.rate)})"
