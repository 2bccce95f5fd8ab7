"""Leaving padding out changes what is computed, and nothing of what comes out."""

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from knowtuning.training import head
from knowtuning.training.lora import one_product
from knowtuning.training.models import load_base, new_adapter
from knowtuning.training.packed import IGNORE, pack, packed
from knowtuning.training.scored import last_mlp_where_used


def sequences(vocabulary):
    """Twenty rows of very different length."""
    chance = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 60, (20,), generator=chance)
    return [torch.randint(5, vocabulary, (int(length),), generator=chance).tolist() for length in lengths]


def grouped():
    """A model whose queries share keys and values, as larger ones do."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


@pytest.mark.parametrize("kind", ["lab", "grouped"])
def test_states_and_gradients_are_those_of_each_sequence_alone(untrained_base, kind):
    model = grouped() if kind == "grouped" else AutoModelForCausalLM.from_pretrained(str(untrained_base)).eval()
    rows = sequences(model.config.vocab_size)
    found = []
    for together in (False, True):
        model.zero_grad()
        if together:
            batch = pack(rows, rows)
            batch.pop("labels")
            with packed(model):
                states = model.base_model(**batch, use_cache=False).last_hidden_state[0]
        else:
            alone = [model.base_model(torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in rows]
            states = torch.cat(alone)
        (states * torch.linspace(-1, 1, states.shape[-1])).mean().backward()
        found.append((states.detach(), model.base_model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6) and found[0][1].abs().max() > 1e-5


def test_no_token_stands_in_a_packed_row_but_the_sequences(untrained_base):
    rows = sequences(100)
    batch = pack(rows, [[IGNORE, *row[1:]] for row in rows])
    assert batch["input_ids"].shape == (1, sum(map(len, rows))) == batch["position_ids"].shape
    assert batch["input_ids"][0].tolist() == [token for row in rows for token in row]
    assert batch["max_length_q"] == max(map(len, rows))
    starts = batch["cu_seq_lens_q"][:-1].long()
    assert (batch["labels"][0, starts] == IGNORE).all() and (batch["position_ids"][0, starts] == 0).all()


def test_a_first_token_never_carries_a_label():
    assert pack([[5, 6], [7, 8]], [[5, 6], [7, 8]])["labels"].tolist() == [[IGNORE, 6, IGNORE, 8]]


def test_the_attention_of_before_comes_back(untrained_base):
    model = AutoModelForCausalLM.from_pretrained(str(untrained_base))
    before = model.config._attn_implementation
    with packed(model), pytest.raises(ValueError, match="packed attention needs a batch"):
        model(input_ids=torch.tensor([[5, 6]]), labels=torch.tensor([[5, 6]]))
    assert model.config._attn_implementation == before
    model(torch.tensor([[5, 6]]))


@pytest.mark.parametrize("logits", [2**24, 700])
def test_the_head_gives_log_probs_and_gradients_of_a_full_log_softmax(monkeypatch, logits):
    monkeypatch.setattr(head, "LOGITS", logits)
    model = grouped().requires_grad_(False)
    rows = sequences(model.config.vocab_size)
    batch = pack(rows, [[IGNORE] * 2 + row[2:] for row in rows])
    found = []
    for ours in (False, True):
        model.model.layers[0].mlp.up_proj.weight.requires_grad_(True).grad = None
        if ours:
            with packed(model):
                log_probs = model(**batch)
        else:
            alone = [model(torch.tensor([row])).logits[0, :-1].log_softmax(-1) for row in rows]
            picked = [
                scores.gather(-1, torch.tensor(row[1:])[:, None])[:, 0] for scores, row in zip(alone, rows, strict=True)
            ]
            log_probs = torch.zeros(batch["labels"].shape[1] - 1)
            log_probs[batch["labels"][0, 1:] != IGNORE] = torch.cat([scores[1:] for scores in picked])
        (log_probs * torch.linspace(0.5, 2, len(log_probs))).sum().backward()
        found.append((log_probs.detach(), model.model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5) and found[0][1].abs().max() > 1e-3


def test_a_model_that_caps_its_logits_is_scored_by_its_own(monkeypatch):
    model = grouped()
    whole = model.forward

    def capped(**options):
        output = whole(**options)
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    model.lm_head.weight.data *= 50
    model.forward = capped
    row = [5, 6, 7, 8]
    expected = model(input_ids=torch.tensor([row])).logits[0, :-1].log_softmax(-1)
    with packed(model):
        found = model(**pack([row], [row]))
    assert torch.allclose(found, expected.gather(-1, torch.tensor(row[1:])[:, None])[:, 0], atol=1e-5)
    assert model.forward is capped


def test_lora_in_one_product_is_left_alone_where_it_would_not_be_exact(untrained_base):
    from knowtuning.profiles import get_profile

    for quantisation, dtype, changed in (("none", "float32", 14), ("none", "bfloat16", 0), ("nf4", "float32", 0)):
        model = new_adapter(load_base(untrained_base, quantisation, dtype), get_profile("smoke"), 0)
        with one_product(model):
            assert sum("forward" in module.__dict__ for module in model.modules()) == changed
        assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("last", ["plain", "looks at its neighbours"])
def test_the_last_mlp_computes_scored_tokens_only_where_no_other_need_it(last):
    model = grouped()
    layers, seen = model.model.layers, []
    if last == "looks at its neighbours":
        own = layers[-1].mlp.forward
        layers[-1].mlp.forward = lambda hidden: own(hidden + hidden.roll(1, -2))
    before = layers[-1].mlp.__dict__.get("forward")
    layers[-1].mlp.up_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-2]))
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    whole = model.model(ids).last_hidden_state.flatten(0, 1)
    with last_mlp_where_used(model.model) as use:
        for rows in (torch.tensor([1, 2, 7]), torch.tensor([0])):
            use(rows)
            found = model.model(ids).last_hidden_state.flatten(0, 1)
            assert torch.allclose(found[rows], whole[rows], atol=1e-6)
    assert seen[-2:] == ([3, 1] if last == "plain" else [4, 4])
    assert layers[-1].mlp.__dict__.get("forward") is before
    assert torch.equal(model.model(ids).last_hidden_state.flatten(0, 1), whole)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"]])
def test_lora_in_one_product_has_the_gradients_of_three(targets):
    config = LoraConfig(r=3, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(grouped(), config).train()
    ids, found = torch.tensor([[5, 6, 7, 8]]), []
    for ours in (False, True):
        model.zero_grad()
        with one_product(model) if ours else nullcontext():
            loss = model(ids, labels=ids).loss
            loss.backward()
        found.append((loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}))
    (plain, expected), (one, gradients) = found
    assert torch.allclose(plain, one, atol=1e-6) and len(gradients) == 4 * len(targets)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name
        assert gradient.abs().max() > 0
