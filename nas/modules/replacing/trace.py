"""One forward as a graph of torch.fx whose submodules stay calls, and a forward made from it that calls others.

Tracing module by module, instead of the whole model, finds calls in models that are not traceable as a whole, and
leaves every other forward as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from nas.modules.replacing.functions import FUNCTIONS, METHODS, FunctionCall, as_call
from nas.modules.replacing.scan import Scan


@dataclass(frozen=True)
class Trace:
    """What forward does in training and in evaluation; one graph if it is the same."""

    training: fx.Graph
    evaluation: fx.Graph

    @property
    def is_one(self) -> bool:
        return self.training is self.evaluation


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def trace(module: nn.Module, scanned: Scan) -> Trace | str:
    """The graphs, or the reason why there are none. Functions that the module holds appear as submodules."""
    if isinstance(module, fx.GraphModule):
        return "it is a graph of torch.fx already: replace first, trace then"
    if scanned.hazard is not None:
        return scanned.hazard
    try:
        graphs = [_graph(module, mode) for mode in (True, False)]
    except Exception as fault:  # forward runs with stand-ins for tensors, so anything may be raised in it
        lines = str(fault).splitlines() or [type(fault).__name__]
        return f"torch.fx cannot trace it: {lines[0]}"
    if any(node.op == "get_attr" and "_tensor_constant" in str(node.target) for node in graphs[0].nodes):
        return "it makes tensors, which a trace would freeze"
    if _source(graphs[0]) == _source(graphs[1]):
        return Trace(graphs[0], graphs[0])
    if [_what(node) for node in parts(graphs[0])] != [_what(node) for node in parts(graphs[1])]:
        return "it calls other things in training than in evaluation"
    return Trace(*graphs)


def _graph(module: nn.Module, training: bool) -> fx.Graph:
    modes = {part: part.training for part in module.modules()}
    names = set(vars(module))
    held = {name: value for name, value in vars(module).items() if as_call(value) is not None}
    try:
        for name, value in held.items():
            del module.__dict__[name]
            module._modules[name] = as_call(value)
        for part in modes:
            part.training = training
        return _Tracer().trace(module)
    finally:
        for part, mode in modes.items():
            part.training = mode
        for name, value in held.items():
            module._modules.pop(name, None)
            module.__dict__[name] = value
        for name in set(vars(module)) - names:  # constants that fx leaves behind
            delattr(module, name)


def _source(graph: fx.Graph) -> str:
    return graph.python_code("self").src


def parts(graph: fx.Graph) -> list[fx.Node]:
    """Calls of activation functions and of submodules, in order; by their index edits name them."""
    return [node for node in graph.nodes if node.op == "call_module" or kind_of(node) is not None]


def kind_of(node: fx.Node) -> type[nn.Module] | None:
    """The module type that a call of an activation function stands for; None for anything else."""
    if node.op == "call_function":
        return FUNCTIONS.get(node.target)
    if node.op == "call_method":
        return METHODS.get(str(node.target))
    return None


def _what(node: fx.Node) -> tuple[str, Any]:
    return node.op, node.target


def function_call(node: fx.Node) -> FunctionCall:
    """The node's function with the node's arguments."""
    kind = kind_of(node)
    assert kind is not None
    args, kwargs = _arguments(node)
    return FunctionCall(kind, args, kwargs)


def is_constant(node: fx.Node) -> bool:
    """Whether nothing but the one tensor is computed in forward (the weight of F.prelu is)."""
    return node.all_input_nodes == [_input(node)]


def only_call(module: nn.Module, graph: fx.Graph) -> FunctionCall | None:
    """The activation function that is all that a forward does, else None."""
    found = parts(graph)
    if len(found) != 1 or len([node for node in graph.nodes if node.op != "get_attr"]) != 3:
        return None
    node = found[0]
    if node.op == "call_module":
        return as_call(vars(module).get(str(node.target))) if len(node.args) == 1 and not node.kwargs else None
    return function_call(node) if is_constant(node) else None


def calls_with_more(graph: fx.Graph, target: str) -> bool:
    """Whether a submodule is given more than one tensor."""
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == target]
    return any(len(node.args) != 1 or node.kwargs for node in calls)


def writes_on(graph: fx.Graph, target: str) -> bool:
    """Whether something after a call of the submodule reads the tensor that was given to it."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == target]
    return any(order[user] > order[call] for call in calls for given in call.all_input_nodes for user in given.users)


def _arguments(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    kwargs = {key: value for key, value in node.kwargs.items() if node.args or key != "input"}
    return tuple(node.args[1:]), kwargs


def _input(node: fx.Node) -> fx.Node:
    given = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(given, fx.Node)
    return given


def rewritten(module: nn.Module, traced: Trace, edits: Mapping[int, str], new: Mapping[str, nn.Module]) -> type:
    """A subclass of the module's class whose forward calls new submodules.

    Everything else of the class stays: its methods, what it is an instance of, the names of its parameters. Like the
    classes of ``torch.nn.utils.parametrize`` it cannot be pickled; state dicts and deep copies work.

    Args:
        edits: which of ``parts`` to replace, by what name.
        new: the submodules by name.
    """
    training = _forward(module, traced.training, edits, new)
    forward = training
    if not traced.is_one:
        evaluation = _forward(module, traced.evaluation, edits, new)

        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return (training if self.training else evaluation)(self, *args, **kwargs)

    kind = type(module)
    names = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), names)


def _forward(
    module: nn.Module, graph: fx.Graph, edits: Mapping[int, str], new: Mapping[str, nn.Module]
) -> Callable[..., Any]:
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, val_map={}))
    found = parts(copied)
    for index, name in edits.items():
        _edit(copied, found[index], name)
    copied.lint()
    owned = {str(node.target): node for node in copied.nodes if node.op in ("call_module", "get_attr")}
    root: dict[str, Any] = {name: new[name] if name in new else _reach(module, name) for name in owned}
    made = fx.GraphModule(root, copied, type(module).__name__)
    forward: Callable[..., Any] = type(made).forward
    return forward


def _edit(graph: fx.Graph, node: fx.Node, name: str) -> None:
    given = _input(node)
    in_place = kind_of(node) is not None and (str(node.target).endswith("_") or function_call(node).inplace)
    in_place = in_place or getattr(node.target, "__name__", "").endswith("_")
    with graph.inserting_after(node):
        fresh = graph.call_module(name, (given,))
    node.replace_all_uses_with(fresh)
    if in_place:  # whoever reads the input afterwards read what the call had written there
        order = {found: i for i, found in enumerate(graph.nodes)}
        for user in [user for user in given.users if order[user] > order[fresh]]:
            user.replace_input_with(given, fresh)
    graph.erase_node(node)


def _reach(module: nn.Module, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value
