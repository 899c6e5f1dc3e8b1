"""timm and transformers, with random weights and nothing downloaded."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.modules import register_with_transformers, replace_activations


class Sech(nn.Module):
    """x / cosh(x), with a scale to learn; no library has it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x / torch.cosh(x)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def acts(model, kind=Sech):
    return [module for module in model.modules() if isinstance(module, kind)]


def assert_each_learns(found):
    assert len({id(module.scale) for module in found}) == len(found)
    assert all(module.scale.grad is not None for module in found)  # 0 before a norm that timm starts at 0


@pytest.mark.parametrize(
    ("name", "old", "sites"),
    [("resnet18", nn.ReLU, 17), ("mobilenetv3_small_050", nn.Hardswish, 19), ("vit_tiny_patch16_224", nn.GELU, 12)],
)
def test_timm_models_made_with_and_given_an_activation_are_the_same(name, old, sites):
    import timm

    options = {"num_classes": 5} | ({"img_size": 32} if name.startswith("vit") else {})
    model = timm.create_model(name, **options)
    report = replace_activations(model, old, Sech, verbose=False)
    assert len(report.replaced) == len(acts(model)) == sites
    if not name.startswith("mobilenet"):  # whose act_layer is for ReLU and Hardswish alike
        made = timm.create_model(name, act_layer=lambda inplace=False: Sech(), **options)
        made.load_state_dict(model.state_dict())
        x = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(made.eval()(x), model.eval()(x), atol=0, rtol=0)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert_each_learns(acts(model))


def llama(**options):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes, **options)).eval()


def gpt2(**options):
    from transformers import GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_head=2, n_layer=3, **ends, **options)).eval()


@pytest.mark.parametrize(("make", "option"), [(llama, "hidden_act"), (gpt2, "activation_function")])
def test_transformers_models_take_a_registered_name(make, option):
    register_with_transformers("test_sech", Sech)
    model = make(**{option: "test_sech"})
    assert len(acts(model)) == 3
    tokens = torch.arange(20).view(2, 10)
    model(tokens, labels=tokens).loss.backward()
    assert_each_learns(acts(model))
    assert model.generate(tokens, max_new_tokens=3, do_sample=False).shape == (2, 13)


@pytest.mark.parametrize(
    ("make", "option", "old"),
    [(llama, "hidden_act", nn.SiLU), (gpt2, "activation_function", "transformer.h.*.mlp.act")],
)
def test_registered_and_replaced_are_the_same(make, option, old):
    register_with_transformers("test_sech", Sech)
    model = make()
    report = replace_activations(model, old, Sech, verbose=False)
    assert len(report.replaced) == 3
    expected = make(**{option: "test_sech"})
    expected.load_state_dict(model.state_dict())
    tokens = torch.arange(20).view(2, 10)
    torch.testing.assert_close(model(tokens).logits, expected(tokens).logits, atol=0, rtol=0)


def test_a_saved_model_knows_the_registered_name(tmp_path):
    register_with_transformers("test_sech", Sech)
    model = llama(hidden_act="test_sech")
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    tokens = torch.arange(20).view(2, 10)
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits)
    assert loaded.config.hidden_act == "test_sech"


def test_an_activation_made_of_others_is_named_as_a_whole():
    model = gpt2()
    with pytest.raises(ValueError, match=r"NewGELUActivation \(3\); did you mean NewGELUActivation, the type of"):
        replace_activations(model, nn.GELU, nn.SiLU)
    with pytest.raises(ValueError, match=r"F\.tanh in transformer\.h\.0\.mlp\.act: part of NewGELUActivation"):
        replace_activations(model, nn.Tanh, nn.SiLU)
    expected = copy.deepcopy(model)
    kind = type(model.transformer.h[0].mlp.act)
    replace_activations(model, kind, lambda: nn.GELU(approximate="tanh"), verbose=False)
    tokens = torch.arange(20).view(2, 10)
    torch.testing.assert_close(model(tokens).logits, expected(tokens).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "act", "error", "words"),
    [
        ("silu", Sech, ValueError, "has an activation 'silu' already"),
        ("", Sech, ValueError, "choose another name"),
        ("test_bad", Sech(), TypeError, "for each layer"),
        ("test_bad", F.silu, TypeError, "such as nn.SiLU"),
        ("test_bad", lambda: 3, TypeError, "such as nn.SiLU"),
    ],
)
def test_registrations_that_are_refused(name, act, error, words):
    from transformers.activations import ACT2FN

    with pytest.raises(error, match=words):
        register_with_transformers(name, act)
    assert "test_bad" not in ACT2FN
    assert isinstance(ACT2FN["silu"], nn.Module)


def test_without_transformers_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers.activations", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        register_with_transformers("test_sech", Sech)
