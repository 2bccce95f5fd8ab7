"""Leaving padding out changes what is computed, and nothing of what comes out."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from knowtuning.training.models import load_tokenizer, score_labelled_only
from knowtuning.training.packed import IGNORE, pack, packed


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
        model(torch.tensor([[5, 6]]))
    assert model.config._attn_implementation == before
    model(torch.tensor([[5, 6]]))


def test_trl_scores_the_same_when_it_scores_labels_only(untrained_base, monkeypatch):
    import trl.trainer.utils as trainer

    rows = sequences(len(load_tokenizer(untrained_base)))
    labels = [[IGNORE] * 2 + row[2:] for row in rows]
    found = []
    for labelled_only in (False, True):
        monkeypatch.setattr(trainer, "_use_triton", lambda device: False)
        if labelled_only:
            score_labelled_only()
        model = AutoModelForCausalLM.from_pretrained(str(untrained_base)).eval()
        trainer.add_fused_lm_head(model)
        with packed(model):
            output = model(**pack(rows, labels), fused_lm_head=True, use_cache=False)
        output.loss.backward()
        found.append((output.loss, output.log_probs, model.base_model.layers[0].mlp.up_proj.weight.grad))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
