"""An expression as the text of kernels: C for CPUs, Triton for GPUs.

Only what differs from function to function is written here; the loops, and what the operators' names mean, are in
``nas/modules/activations``.
"""

from __future__ import annotations

from functools import lru_cache

from search_spaces.expression import Expression
from search_spaces.gradients import NoKernel, Program, differentiate


@lru_cache(maxsize=4096)
def kernel_source(expression: Expression) -> tuple[str, str] | None:
    """The texts of a function of x in C and in Triton; None if kernels do not compute it."""
    try:
        program = differentiate(expression)
    except NoKernel:
        return None
    return to_c(program), to_triton(program)


def to_c(program: Program) -> str:
    """``value(x, p)`` and ``gradients(x, p, g, d)``, which returns the slope by x and fills d with those by p."""
    own = [f"const float {name} = p[{k}];" for k, name in enumerate(program.params)]
    values = [f"const float {name} = {text};" for name, text in program.values]
    gradients = [f"const float {name} = {text};" for name, text in program.gradients]
    to_params = [f"d[{k}] = {text};" for k, text in enumerate(program.slopes[1:])]
    return "\n".join(
        (
            f"enum {{ PARAMS = {len(program.params)} }};",
            *_c_function("value(float x, const float *p)", [*own, *values, f"return {program.value};"]),
            *_c_function(
                "gradients(float x, const float *p, float g, float *d)",
                [*own, *values, *gradients, *to_params, f"return {program.slopes[0]};"],
            ),
        )
    )


def _c_function(head: str, body: list[str]) -> list[str]:
    return [f"static inline float {head} {{", *(f"    {line}" for line in body), "}"]


def to_triton(program: Program) -> str:
    """``value(x, ...)`` and ``gradients(x, ..., g)``, which returns the slopes by x and by each parameter."""
    inputs = ", ".join(("x", *program.params))
    values = [f"{name} = {text}" for name, text in program.values]
    gradients = [f"{name} = {text}" for name, text in program.gradients]
    slopes = ", ".join(f"zero + ({slope})" for slope in program.slopes)  # a slope may be a number
    return "\n".join(
        (
            *_triton_function(f"value({inputs})", [*values, f"return {program.value} + tl.zeros_like(x)"]),
            "",
            "",
            *_triton_function(
                f"gradients({inputs}, g)", [*values, *gradients, "zero = tl.zeros_like(x)", f"return {slopes}"]
            ),
        )
    )


def _triton_function(head: str, body: list[str]) -> list[str]:
    return ["@triton.jit", f"def {head}:", *(f"    {line}" for line in body)]
