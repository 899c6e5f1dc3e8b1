"""A module as an ONNX file of plain operators, compared with torch before it counts as written.

Opset 24 has Swish(x, alpha) = x * Sigmoid(alpha * x) as an operator of its own; torch's exporter writes the product, in
which it is found and replaced here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SWISH_SINCE = 24
_OLDEST = 18  # that torch's exporter writes
_CLOSE = 1e-5


class OnnxError(ValueError):
    """A package is missing, a module cannot be exported, or the file computes something else."""


def to_onnx(module: nn.Module, example: Tensor, path: str | Path, *, opset: int = 20, batch: bool = True) -> Path:
    """Write a module of one input as ONNX.

    Args:
        module: any; a model or an activation. It is exported as it is in evaluation.
        example: an input.
        path: of the file; it is replaced only by one that computes what the module does, to 1e-5.
        opset: of ONNX; from 24 on, x * sigmoid(c * x) is the operator Swish.
        batch: whether the first dimension may have any size.

    Raises:
        OnnxError: onnx, onnxscript or onnxruntime is missing; an operator has no ONNX form; onnxruntime computes
            something else; or the file cannot be written.
    """
    _need_packages()
    _check_opset(opset)
    path = Path(path)
    training = module.training
    module.eval()
    try:
        program = _exported(module, example, opset, batch)
        draft = path.with_name(f".{path.name}")
        try:
            program.save(draft)
            _compare(module, example, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OnnxError(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        module.train(training)
    return path


def export_function(path: Path) -> Path:
    """An exported function, by its Python file, as an ONNX file beside it: any number of rows of four channels."""
    from nas.loading import load

    return to_onnx(load(path), torch.linspace(-4, 4, 32).view(8, 4), path.with_suffix(".onnx"))


def _need_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise OnnxError(
            f"{error.name} is not installed; ONNX files need: pip install onnx onnxscript onnxruntime"
        ) from error


def _check_opset(opset: int) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise OnnxError(
            f"an opset is a number from {_OLDEST} to {newest}, which onnx {onnx.__version__} knows; got {opset}"
        )


def _exported(module: nn.Module, example: Tensor, opset: int, batch: bool) -> Any:
    """torch's ONNXProgram."""
    shapes = ({0: torch.export.Dim.DYNAMIC} if batch and example.dim() else None,)
    try:
        program = torch.onnx.export(
            module, (example,), dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False
        )
    except Exception as error:  # the exporter's errors are many
        unknown = re.search(r"Error when translating node.*?call_function\[target=([\w.]+)\]", str(error))
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = f"{unknown[1]} has no ONNX form" if unknown else lines[0][:300]
        raise OnnxError(f"{_name(module)} cannot be written as ONNX of opset {opset}: {why}") from error
    assert program is not None
    if opset >= SWISH_SINCE:
        from onnxscript.rewriter import rewrite

        program.model = rewrite(program.model, _swish_rules())
    return program


def _name(module: nn.Module) -> str:
    text = str(module)
    return text if "\n" not in text else type(module).__name__


def _swish_rules() -> Any:
    """x * Sigmoid(x) and x * Sigmoid(c * x), with factors in any order."""
    from onnxscript.rewriter import pattern

    def is_number(context: Any, c: Any, **_: Any) -> bool:
        return c.const_value is not None and c.const_value.size == 1

    rules = [
        pattern.RewriteRule(lambda op, x: op.Mul(x, op.Sigmoid(x)), lambda op, x: op.Swish(x, alpha=1.0)),
        pattern.RewriteRule(
            lambda op, x, c: op.Mul(x, op.Sigmoid(op.Mul(x, c))),
            lambda op, x, c: op.Swish(x, alpha=float(c.const_value.numpy().item())),
            is_number,
        ),
    ]
    return list(pattern.RewriteRuleSet(rules, commute=True).rules)


@torch.no_grad()
def _compare(module: nn.Module, example: Tensor, path: Path) -> None:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: example.detach().cpu().numpy()})
    except Exception as error:  # onnxruntime's errors have no common base
        raise OnnxError(f"onnxruntime does not run what was exported: {str(error)[:300]}") from error
    expected = module(example).double().cpu()
    off = (torch.from_numpy(found).double() - expected).abs()
    worst = float((off / (1 + expected.abs())).max()) if off.numel() else 0.0
    if not worst <= _CLOSE:
        raise OnnxError(
            f"onnxruntime's result differs from torch's by {worst:.2g}, more than {_CLOSE}; nothing was written"
        )
